//! PROPFIND: the properties that a client asks for, of each file.
//!
//! We write the answer ourselves: a directory has many entries, and for each the answer lists the
//! properties that it has and those that it lacks.

use farwire_protocol::streams::files::{Head, ToBridge, What};
use rustix::io::Errno;
use xmltree::Element;

use super::body;
use super::fields::Depth;
use super::filter::DavRequest;
use super::live::{self, LIVE, Live, USUAL};
use super::props::{ATTRIBUTE, Prop, Props};
use super::reply::{Refusal, Reply, XML, header};
use super::serving::{Now, Serving};
use super::target::url;
use super::xml::{self, DAV, Name, Shape};
use crate::path::Rel;
use crate::peer::{Broken, Peer};
use crate::tree::{Listing, Stat};

/// The most properties in one request, so that a small request has no endless answer.
const ASKED: usize = 128;

/// Size up to which an answer is collected before it is sent.
const GATHERED: usize = 32 << 10;

const BEGIN: &[u8] = b"<?xml version=\"1.0\" encoding=\"utf-8\"?><D:multistatus xmlns:D=\"DAV:\">";
const END: &[u8] = b"</D:multistatus>";

/// The properties that are asked for.
#[derive(Debug)]
struct PropertyQuery {
    wanted: Vec<WantedProperty>,
    /// How many of the first ones were not asked for by name. They are not reported as missing.
    unnamed: usize,
    /// Whether all stored properties are asked for, too.
    kept: bool,
    /// Whether only the names are asked for.
    names: bool,
}

/// A property that is asked for.
#[derive(Debug)]
struct WantedProperty {
    name: Name,
    live: Option<Live>,
    /// Its element: start tag, end tag, and the empty element.
    begin: String,
    end: String,
    empty: String,
}

impl WantedProperty {
    fn new(name: Name) -> Self {
        let local = &name.local;
        let (tag, space) = match &name.space[..] {
            DAV => (format!("D:{local}"), String::new()),
            "" => (local.clone(), " xmlns=\"\"".to_owned()),
            space => (format!("x:{local}"), format!(" xmlns:x=\"{}\"", escape(space))),
        };
        Self {
            live: Live::of(&name),
            begin: format!("<{tag}{space}>"),
            end: format!("</{tag}>"),
            empty: format!("<{tag}{space}/>"),
            name,
        }
    }

    /// Whether clients may have set it. They cannot set WebDAV's own properties.
    fn may_be_kept(&self) -> bool {
        self.live.is_none() && self.name.space != DAV
    }
}

impl PropertyQuery {
    fn read(shape: Option<&Shape>) -> Result<Self, Refusal> {
        let known = |count: usize| -> Vec<Name> {
            let name = |&(_, space, local): &(Live, &str, &str)| Name {
                space: space.to_owned(),
                local: local.to_owned(),
            };
            LIVE.iter().take(count).map(name).collect()
        };
        let Some(shape) = shape else { return Ok(Self::new(known(USUAL), &[], true)) };
        if !shape.root.is("propfind") || shape.leaves.len() > ASKED {
            return Err(Refusal::MALFORMED);
        }
        let part = |name: &str| shape.parts.iter().any(|part| part.is(name));
        match (part("prop"), part("allprop"), part("propname")) {
            (true, false, false) => Ok(Self::new(Vec::new(), &shape.leaves, false)),
            (false, true, false) => Ok(Self::new(known(USUAL), &shape.leaves, true)),
            (false, false, true) => {
                Ok(Self { names: true, ..Self::new(known(LIVE.len()), &[], true) })
            }
            _ => Err(Refusal::MALFORMED),
        }
    }

    fn new(mut names: Vec<Name>, named: &[Name], kept: bool) -> Self {
        let unnamed = names.len();
        for name in named {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let wanted = names.into_iter().map(WantedProperty::new).collect();
        Self { wanted, unnamed, kept, names: false }
    }

    /// Whether the stored properties have to be read.
    fn needs_stored(&self) -> bool {
        self.kept || self.wanted.iter().any(WantedProperty::may_be_kept)
    }
}

impl Serving<'_> {
    /// Answers a PROPFIND.
    pub(super) fn list(
        &self,
        request: &DavRequest,
        now: &Now,
        peer: &mut dyn Peer,
    ) -> Result<(), Broken> {
        let path = &request.target.path;
        let prepared = body::body(peer, xml::BODY)?.and_then(|body| {
            let shape = (!body.is_empty()).then(|| xml::check(&body)).transpose()?;
            let asked = PropertyQuery::read(shape.as_ref())?;
            let stat = now.stat.ok_or(Refusal::status(404))?;
            // A file has nothing beneath it. Without `Depth`, infinity is meant.
            if stat.what == What::Directory && matches!(request.depth, None | Some(Depth::Infinity))
            {
                return Err(Refusal { status: 403, condition: Some("propfind-finite-depth") });
            }
            let deep = request.depth == Some(Depth::One) && stat.what == What::Directory;
            let listing = deep.then(|| self.tree.list(path)).transpose();
            let listing = listing.map_err(|failure| Refusal::from_failure(&failure))?;
            Ok((asked, stat, listing))
        });
        let (asked, stat, listing) = match prepared {
            Ok(prepared) => prepared,
            Err(refusal) => return Reply::from(refusal).say(peer),
        };
        let (name, value) = &XML;
        let mut headers =
            vec![header(name, value.as_bytes()), header("cache-control", b"no-cache")];
        if stat.what == What::Directory && !request.target.slash && !path.is_root() {
            headers.push(header("content-location", url(self.prefix, path, true).as_bytes()));
        }
        peer.say(&ToBridge::Head(Head { status: 207, headers }))?;
        let mut answer = MultiStatus { serving: self, asked, out: BEGIN.to_vec() };
        answer.tell(path, &stat, &|| self.tree.attribute(path, ATTRIBUTE).ok().flatten());
        if let Some(listing) = listing {
            answer.entries(path, listing, peer)?;
        }
        answer.out.extend_from_slice(END);
        peer.data(&answer.out)
    }
}

/// An answer that is being written.
#[derive(Debug)]
struct MultiStatus<'a> {
    serving: &'a Serving<'a>,
    asked: PropertyQuery,
    out: Vec<u8>,
}

impl MultiStatus<'_> {
    /// Writes the entries of a directory.
    fn entries(
        &mut self,
        path: &Rel,
        mut listing: Listing<'_>,
        peer: &mut dyn Peer,
    ) -> Result<(), Broken> {
        let tree = self.serving.tree;
        let mut count = 0;
        // A partial listing that looks complete would make a mirroring client remove the rest.
        while let Some(listed) = listing.next() {
            let listed = listed.map_err(|_| Broken)?;
            // A name that cannot be asked for is left out.
            let Ok(at) = Rel::parse(path.join(&listed.name).as_bytes()) else { continue };
            let itself = match listing.stat(&listed.name) {
                Ok(Some(itself)) => itself,
                Ok(None) | Err(Errno::XDEV) => continue,
                Err(_) => return Err(Broken),
            };
            // So is a link that leads out of the root.
            let linked = itself.what == What::Link;
            let Some(stat) = (if linked { tree.stat(&at).ok() } else { Some(itself) }) else {
                continue;
            };
            if count == self.serving.listed {
                self.say_truncated(path);
                break;
            }
            count += 1;
            let kept = || match linked {
                true => tree.attribute(&at, ATTRIBUTE).ok().flatten(),
                false => listing.attribute(&listed.name, &stat, ATTRIBUTE),
            };
            self.tell(&at, &stat, &kept);
            if self.out.len() >= GATHERED {
                peer.data(&self.out)?;
                self.out.clear();
            }
        }
        Ok(())
    }

    /// Says that the directory has more entries (RFC 6578, section 3.6).
    fn say_truncated(&mut self, path: &Rel) {
        let href = url(self.serving.prefix, path, true);
        let more = format!(
            "<D:response><D:href>{href}</D:href>\
             <D:status>HTTP/1.1 507 Insufficient Storage</D:status>\
             <D:error><D:number-of-matches-within-limits/></D:error></D:response>"
        );
        push(&mut self.out, &more);
    }

    /// Writes the properties of one file.
    fn tell(&mut self, path: &Rel, stat: &Stat, kept: &dyn Fn() -> Option<Vec<u8>>) {
        let Self { serving, asked, out } = self;
        let props = match asked.needs_stored() && matches!(stat.what, What::File | What::Directory)
        {
            true => kept().map(|bytes| Props::read(&bytes)).unwrap_or_default(),
            false => Props::default(),
        };
        push(out, "<D:response><D:href>");
        push(out, &url(serving.prefix, path, stat.what == What::Directory));
        push(out, "</D:href>");
        let before = out.len();
        push(out, "<D:propstat><D:prop>");
        let (mut has, mut lacks) = (0, Vec::new());
        for (at, wanted) in asked.wanted.iter().enumerate() {
            let told = match wanted.live {
                Some(live) if asked.names => live.suits(stat.what) && push(out, &wanted.empty),
                Some(live) => {
                    let begin = out.len();
                    push(out, &wanted.begin);
                    let told = live.write(serving, path, stat, out);
                    if told { push(out, &wanted.end) } else { cut(out, begin) }
                }
                // It is written with all stored properties below.
                None if asked.kept => props.get(&wanted.name.space, &wanted.name.local).is_some(),
                None => props
                    .get(&wanted.name.space, &wanted.name.local)
                    .is_some_and(|prop| repeat(prop, out)),
            };
            has += usize::from(told);
            if !told && at >= asked.unnamed {
                lacks.push(wanted);
            }
        }
        for prop in props.props.iter().filter(|_| asked.kept) {
            let name = || {
                WantedProperty::new(Name { space: prop.space.clone(), local: prop.name.clone() })
            };
            let told = if asked.names { push(out, &name().empty) } else { repeat(prop, out) };
            has += usize::from(told);
        }
        if has > 0 || lacks.is_empty() {
            push(out, "</D:prop><D:status>HTTP/1.1 200 OK</D:status></D:propstat>");
        } else {
            out.truncate(before);
        }
        if !lacks.is_empty() {
            push(out, "<D:propstat><D:prop>");
            lacks.iter().for_each(|wanted| _ = push(out, &wanted.empty));
            push(out, "</D:prop><D:status>HTTP/1.1 404 Not Found</D:status></D:propstat>");
        }
        push(out, "</D:response>");
    }
}

/// Writes a property as the client set it.
fn repeat(prop: &Prop, out: &mut Vec<u8>) -> bool {
    Element::parse(&prop.xml.0[..]).is_ok_and(|element| live::element(&element, out))
}

fn push(out: &mut Vec<u8>, text: &str) -> bool {
    out.extend_from_slice(text.as_bytes());
    true
}

fn cut(out: &mut Vec<u8>, at: usize) -> bool {
    out.truncate(at);
    false
}

fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |mut escaped, letter| {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' => escaped.push_str("&#9;"),
            '\n' => escaped.push_str("&#10;"),
            '\r' => escaped.push_str("&#13;"),
            letter => escaped.push(letter),
        }
        escaped
    })
}
