//! Whether somebody may do something: the one place that denies requests.
//!
//! ```text
//!     admission   who may be here: the devices that the owner of the server has let in
//!     principal   who asks
//!     demand      what they want to do, and to what
//!     rights      what their device may do at all, now
//!     reason      why not
//! ```
//!
//! [`decide`] is pure, and is called before a handler. A handler takes an [`Allowed`], which only
//! this module creates, so that none can be called without a decision. When the rights of a device
//! change, its open streams check whether they may stay, see [`Asker::wait_for_denial`].
//!
//! Not here: who may type into a session at this moment, and who may change that.
//! `terminal/typing_rights.rs` decides that together with each write. What a worker can reach is
//! bounded by the kernel, see `files/worker.rs`.

pub(crate) mod admission;
pub(crate) mod demand;
pub(crate) mod principal;
pub(crate) mod reason;
pub(crate) mod rights;

use std::ops::Deref;
use std::sync::Arc;

use farwire_protocol::failure::Failure;
use farwire_protocol::streams::session::Caller;
use tokio::sync::watch;

use self::demand::{Demand, JobFacts};
use self::principal::Principal;
use self::reason::Denied;
use self::rights::Rights;

/// Whether `who`, whose device has these rights, may do this.
pub(crate) fn decide(who: &Principal, demand: &Demand<'_>, rights: &Rights) -> Result<(), Denied> {
    if let Rights::Nothing(why) = rights {
        return Err(Denied::LockedOut(why.clone()));
    }
    match demand {
        Demand::Stay | Demand::Facts | Demand::Run | Demand::OpenSession | Demand::EnterRoot => {
            Ok(())
        }
        Demand::Use(job) => sees(who, job),
        Demand::Stop(job, lease) => {
            sees(who, job)?;
            match lease.filter(|(typist, _)| !typist.is_on_surface_of(who) && !who.is_user()) {
                Some((typist, age)) => Err(Denied::Held(typist.clone(), *age)),
                None => Ok(()),
            }
        }
        Demand::SetReadOnly(job) => {
            sees(who, job)?;
            let own = who.is_user() || who.is_on_surface_of(job.opener);
            if own { Ok(()) } else { Err(Denied::NotOpener) }
        }
    }
}

/// A device sees its own jobs, and a person sees every job. Of sessions that are labelled with an
/// owner, a client that names an owner sees only those of that owner. Until there are grants, every
/// admitted device is trusted with the machine; this keeps a model on one device from the jobs of
/// another.
pub(crate) fn sees(who: &Principal, job: &JobFacts<'_>) -> Result<(), Denied> {
    let own = who.device == job.opener.device || who.is_user();
    let filed = match (job.filed_for.as_deref(), who.on_behalf.as_deref()) {
        (Some(filed), Some(acting)) => filed == acting,
        _ => true,
    };
    if own && filed { Ok(()) } else { Err(Denied::Unseen) }
}

/// Something that the gate has granted.
#[derive(Clone, Debug)]
pub(crate) struct Allowed<T>(T);

impl<T> Allowed<T> {
    /// The thing itself.
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Allowed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Who makes requests on an open stream.
#[derive(Clone, Debug)]
pub(crate) struct Asker {
    pub(crate) who: Arc<Principal>,
    rights: watch::Receiver<Rights>,
}

impl Asker {
    pub(crate) fn new(who: Arc<Principal>, rights: watch::Receiver<Rights>) -> Self {
        Self { who, rights }
    }

    /// The same, with what the client claims about itself.
    ///
    /// # Errors
    ///
    /// Those of [`Principal::calling_itself`].
    pub(crate) fn calling_itself(&self, caller: Option<&Caller>) -> Result<Self, Failure> {
        let who = Arc::new(self.who.calling_itself(caller)?);
        Ok(Self { who, rights: self.rights.clone() })
    }

    /// The same, without what the client claims about itself.
    pub(crate) fn as_surface(&self) -> Self {
        Self { who: Arc::new(self.who.as_surface()), rights: self.rights.clone() }
    }

    /// Whether they may do this now.
    pub(crate) fn may(&self, demand: &Demand<'_>) -> Result<(), Denied> {
        decide(&self.who, demand, &self.rights.borrow())
    }

    /// Grants `what`, if they may have it now.
    ///
    /// # Errors
    ///
    /// Why they may not.
    pub(crate) fn allow<T>(&self, demand: &Demand<'_>, what: T) -> Result<Allowed<T>, Denied> {
        self.may(demand).map(|()| Allowed(what))
    }

    /// Waits until they are no longer allowed here, and returns why.
    pub(crate) async fn wait_for_denial(&self) -> Denied {
        let mut rights = self.rights.clone();
        loop {
            if let Err(denied) = decide(&self.who, &Demand::Stay, &rights.borrow_and_update()) {
                return denied;
            }
            if rights.changed().await.is_err() {
                // Their link is gone, and ends the stream by itself.
                std::future::pending::<()>().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use farwire_protocol::failure::Kind;
    use farwire_protocol::id::Id;
    use farwire_protocol::surface::Surface;

    use super::*;

    const AGE: Duration = Duration::from_secs(3);

    fn principal(device: u8, surface: Surface) -> Principal {
        Principal::new(Id([device; 32]), surface, format!("d{device}"))
    }

    fn acting_for(who: &Principal, owner: &str) -> Principal {
        Principal { on_behalf: Some(owner.into()), ..who.clone() }
    }

    #[test]
    fn who_may_do_what() {
        let (model, other) = (principal(1, Surface::AiLocal), principal(2, Surface::AiLocal));
        let (person, stranger) = (principal(1, Surface::Human), principal(2, Surface::Human));
        let plain = || JobFacts { opener: &model, filed_for: None };
        let filed = || JobFacts { opener: &model, filed_for: Some("ann".to_owned()) };
        let (ann, bob) = (acting_for(&model, "ann"), acting_for(&model, "bob"));
        let client = Principal { client: Some("c".into()), ..model.clone() };
        let unseen = Err(Denied::Unseen);
        let (by_client, by_person) = ((client.clone(), AGE), (person.clone(), AGE));
        for (who, demand, expected) in [
            (&other, Demand::Run, Ok(())),
            (&other, Demand::OpenSession, Ok(())),
            (&other, Demand::EnterRoot, Ok(())),
            (&other, Demand::Facts, Ok(())),
            (&model, Demand::Use(plain()), Ok(())),
            (&person, Demand::Use(plain()), Ok(())),
            (&stranger, Demand::Use(plain()), Ok(())),
            (&other, Demand::Use(plain()), unseen.clone()),
            (&other, Demand::Stop(plain(), None), unseen.clone()),
            (&other, Demand::SetReadOnly(plain()), unseen.clone()),
            (&model, Demand::Use(filed()), Ok(())),
            (&ann, Demand::Use(filed()), Ok(())),
            (&bob, Demand::Use(filed()), unseen.clone()),
            (&bob, Demand::Use(plain()), Ok(())),
            (&bob, Demand::Stop(filed(), None), unseen),
            (&model, Demand::Stop(plain(), None), Ok(())),
            (&model, Demand::Stop(plain(), Some(&by_client)), Ok(())),
            (
                &model,
                Demand::Stop(plain(), Some(&by_person)),
                Err(Denied::Held(person.clone(), AGE)),
            ),
            (&stranger, Demand::Stop(plain(), Some(&by_client)), Ok(())),
            (&client, Demand::SetReadOnly(plain()), Ok(())),
            (&stranger, Demand::SetReadOnly(plain()), Ok(())),
            (
                &model,
                Demand::SetReadOnly(JobFacts { opener: &person, filed_for: None }),
                Err(Denied::NotOpener),
            ),
        ] {
            assert_eq!(decide(who, &demand, &Rights::All), expected, "{who}: {demand:?}");
            let gone = Rights::Nothing(Failure::new(Kind::NotAuthorized, "removed"));
            let denied = decide(who, &demand, &gone).unwrap_err();
            assert!(matches!(denied, Denied::LockedOut(_)), "{who}: {demand:?}");
        }
    }

    #[tokio::test]
    async fn whoever_is_here_is_told_when_their_rights_are_gone() {
        let (changes, rights) = watch::channel(Rights::All);
        let asker = Asker::new(Arc::new(principal(1, Surface::Human)), rights);
        assert!(asker.allow(&Demand::Run, ()).is_ok());
        let denied = asker.wait_for_denial();
        tokio::pin!(denied);
        tokio::select! {
            biased;
            _ = &mut denied => panic!("nothing has changed"),
            () = std::future::ready(()) => {}
        }
        changes.send_replace(Rights::Nothing(Failure::new(Kind::NotAuthorized, "removed")));
        assert!(matches!(denied.await, Denied::LockedOut(_)));
        assert!(asker.allow(&Demand::Run, ()).is_err());
    }
}
