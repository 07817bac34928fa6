//! A million acts of several actors, against a model that is only a table and shares no structure
//! with the real thing.

use farwire_protocol::surface::Surface;

use super::*;
use crate::gate::principal::Principal;

/// The number of sessions, all in one group or each alone.
const SESSIONS: usize = 3;

/// Two users, and three agents of two surfaces.
fn cast() -> [Principal; 5] {
    [
        user(),
        actor(2, Surface::Human, None),
        agent("a"),
        agent("b"),
        actor(1, Surface::Publish("p".to_owned()), Some("a")),
    ]
}

const USERS: usize = 2;
const CLIENTS: [Option<&str>; 5] = [None, None, Some("a"), Some("b"), Some("a")];

/// xorshift64*: the same numbers on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }

    fn index(&mut self, limit: usize) -> usize {
        self.below(limit as u64) as usize
    }
}

/// A session as the model has it: who holds it, until when and for how long since it was last
/// renewed, or by which stream.
#[derive(Clone, Copy)]
struct Row {
    rule: TypingRule,
    read_only: bool,
    holder: Option<usize>,
    ends: u64,
    ttl: u64,
    stream: Option<u64>,
    typed: Option<u64>,
    line: bool,
}

struct Model {
    rows: [Row; SESSIONS],
    grouped: bool,
    now: u64,
}

impl Model {
    fn held(&self, session: usize) -> Option<usize> {
        let row = &self.rows[session];
        row.holder.filter(|_| row.stream.is_some() || self.now < row.ends)
    }

    fn by_rule(&self, session: usize, who: usize) -> bool {
        let row = &self.rows[session];
        let typing = row
            .typed
            .is_some_and(|then| self.now < then + 2_000 || (row.line && self.now < then + 30_000));
        match row.rule {
            TypingRule::Shared => true,
            TypingRule::UserOnly => who < USERS,
            TypingRule::AgentOnly => who >= USERS,
            TypingRule::UserPriority => who < USERS || !typing,
        }
    }

    fn may_type(&self, session: usize, who: usize) -> bool {
        let by_lease = self.held(session).map(|holder| holder == who);
        !self.rows[session].read_only && by_lease.unwrap_or_else(|| self.by_rule(session, who))
    }

    /// The session itself, and those others that move with it.
    fn circle(&self, session: usize) -> Vec<usize> {
        let others = (0..SESSIONS).filter(|&other| self.grouped && other != session);
        let leased = others.filter(|&other| self.held(other).is_some());
        std::iter::once(session).chain(leased).collect()
    }

    fn others_hold(&self, session: usize, who: usize) -> bool {
        self.circle(session).iter().any(|&one| self.held(one).is_some_and(|holder| holder != who))
    }

    fn hold(&mut self, session: usize, who: usize, ttl: u64, stream: Option<u64>) {
        let (now, row) = (self.now, &mut self.rows[session]);
        (row.holder, row.ttl, row.ends, row.stream) = (Some(who), ttl, now + ttl, stream);
    }

    fn free(&mut self, session: usize) {
        (self.rows[session].holder, self.rows[session].stream) = (None, None);
    }

    fn typed(&mut self, session: usize, who: usize, bytes: &[u8]) {
        let renewed = self.held(session) == Some(who);
        let (now, row) = (self.now, &mut self.rows[session]);
        if renewed {
            row.ends = now + row.ttl;
        }
        for byte in bytes {
            match byte {
                b'\r' | b'\n' | 3 | 21 => row.line = false,
                b' '..=b'~' | 128.. => row.line |= who < USERS,
                _ => {}
            }
        }
        if who < USERS {
            row.typed = Some(now);
        }
    }

    fn may_take(&self, session: usize, who: usize, from: Option<&str>) -> bool {
        let may = |&one: &usize| match self.held(one) {
            None => self.by_rule(one, who),
            Some(holder) if holder == who => true,
            Some(holder) => {
                holder >= USERS
                    && from.is_some()
                    && from == CLIENTS[holder]
                    && self.rows[one].rule != TypingRule::UserOnly
            }
        };
        let circle = self.circle(session);
        let any = circle.iter().any(|&one| self.held(one).is_some());
        who < USERS || (any && circle.iter().all(may))
    }
}

/// Both, doing the same.
struct Both {
    real: [Arbiter; SESSIONS],
    model: Model,
    cast: [Principal; 5],
}

/// Whether something was allowed: really, and by the model.
type Allowed = (bool, bool);

impl Both {
    fn real<T>(
        &mut self,
        session: usize,
        act: impl FnOnce(&mut Group<'_, &mut Arbiter>, &[Principal; 5]) -> T,
    ) -> T {
        let grouped = self.model.grouped;
        let mut members: Vec<_> = self.real.iter_mut().collect();
        members.rotate_left(session);
        members.truncate(if grouped { SESSIONS } else { 1 });
        act(&mut Group::new(&mut members, at(self.model.now)), &self.cast)
    }

    fn act(&mut self, session: usize, who: usize, random: &mut Random) -> Allowed {
        match random.below(12) {
            0..=3 => self.types(session, who, random),
            4 | 5 => self.attaches(session, who, random),
            6 => self.detaches(session, who),
            7 => self.hands_over(session, who, random.index(5)),
            8 => self.takes_over(session, who, [None, Some("a"), Some("b")][random.index(3)]),
            9 if random.below(2) == 0 => self.takes(session, who, random.below(3)),
            9 => self.goes(random.below(3)),
            10 => self.rules(session, who, TypingRule::ALL[random.index(4)]),
            _ => {
                let read_only = random.below(8) == 0;
                self.real[session].set_read_only(read_only);
                self.model.rows[session].read_only = read_only;
                (true, true)
            }
        }
    }

    fn types(&mut self, session: usize, who: usize, random: &mut Random) -> Allowed {
        let all = [b"ls".as_slice(), b"\r", b"\x1b", b"a\rb", b"\x03", b"\x15", b"\xc3\xa4"];
        let bytes = all[random.index(all.len())];
        let now = at(self.model.now);
        let done = self.real[session].may_type(&self.cast[who], now).is_ok();
        let should = self.model.may_type(session, who);
        if done && should {
            self.real[session].note_typing(&self.cast[who], bytes, now);
            self.model.typed(session, who, bytes);
        }
        (done, should)
    }

    fn attaches(&mut self, session: usize, who: usize, random: &mut Random) -> Allowed {
        let ttl = [0, 500, 3_000, 20_000, 5_000_000][random.index(5)];
        let done = self.real(session, |group, cast| group.attach(&cast[who], ttl)).is_ok();
        let held = self.model.held(session).is_some();
        let should = !self.model.others_hold(session, who)
            && !self.model.rows[session].read_only
            && (held || self.model.by_rule(session, who));
        if should {
            self.model.hold(session, who, u64::from(ttl).clamp(1_000, 3_600_000), None);
        }
        (done, should)
    }

    fn detaches(&mut self, session: usize, who: usize) -> Allowed {
        let done = self.real[session].detach(&self.cast[who], at(self.model.now)).is_ok();
        let should = self.model.held(session).is_none_or(|holder| holder == who);
        if should {
            self.model.free(session);
        }
        (done, should)
    }

    fn hands_over(&mut self, session: usize, who: usize, heir: usize) -> Allowed {
        let give = |group: &mut Group<'_, &mut Arbiter>, cast: &[Principal; 5]| {
            group.hand_over(&cast[who], &cast[heir], None)
        };
        let done = self.real(session, give).is_ok();
        let should = self.model.held(session) == Some(who) && !self.model.others_hold(session, who);
        if should && heir != who {
            for one in self.model.circle(session) {
                let row = self.model.rows[one];
                let ttl = if row.stream.is_some() { 300_000 } else { row.ttl };
                self.model.hold(one, heir, ttl, None);
            }
        }
        (done, should)
    }

    fn takes_over(&mut self, session: usize, who: usize, from: Option<&str>) -> Allowed {
        let take = |group: &mut Group<'_, &mut Arbiter>, cast: &[Principal; 5]| {
            group.take_over(&cast[who], from, None, 10_000)
        };
        let done = self.real(session, take).is_ok();
        let should = self.model.may_take(session, who, from);
        if should {
            for one in self.model.circle(session) {
                self.model.hold(one, who, 10_000, None);
            }
        }
        (done, should)
    }

    fn takes(&mut self, session: usize, who: usize, stream: u64) -> Allowed {
        let done = self.real(session, |group, cast| group.take(&cast[who], stream)).is_ok();
        if who < USERS {
            for one in self.model.circle(session) {
                self.model.hold(one, who, 0, Some(stream));
            }
        }
        (done, who < USERS)
    }

    fn goes(&mut self, stream: u64) -> Allowed {
        for one in 0..SESSIONS {
            self.real[one].end_stream(stream, at(self.model.now));
            if self.model.rows[one].stream == Some(stream) {
                self.model.free(one);
            }
        }
        (true, true)
    }

    fn rules(&mut self, session: usize, who: usize, rule: TypingRule) -> Allowed {
        let now = at(self.model.now);
        let done = self.real[session].rule(&self.cast[who], rule, now).is_ok();
        if who < USERS {
            self.model.rows[session].rule = rule;
            let agents = self.model.held(session).is_some_and(|holder| holder >= USERS);
            if rule == TypingRule::UserOnly && agents {
                self.model.free(session);
            }
        }
        (done, who < USERS)
    }
}

fn play(seed: u64, acts: u32) {
    let mut random = Random(seed);
    let row = Row {
        rule: TypingRule::UserPriority,
        read_only: false,
        holder: None,
        ends: 0,
        ttl: 0,
        stream: None,
        typed: None,
        line: false,
    };
    let grouped = seed.is_multiple_of(2);
    let model = Model { rows: [row; SESSIONS], grouped, now: 0 };
    let mut both = Both { real: [arbiter(), arbiter(), arbiter()], model, cast: cast() };
    for number in 0..acts {
        both.model.now += [0, 1, 700, 2_000, 15_000][random.index(5)];
        let (session, who) = (random.index(SESSIONS), random.index(5));
        let (real, model) = both.act(session, who, &mut random);
        assert_eq!(real, model, "seed {seed}, act {number}: whether it was allowed");
        let (session, who) = (random.index(SESSIONS), random.index(5));
        let now = at(both.model.now);
        let may = both.real[session].may_type(&both.cast[who], now).is_ok();
        assert_eq!(may, both.model.may_type(session, who), "seed {seed}, act {number}: may type");
        let holder = both.real[session].holder(now);
        let expected = both.model.held(session).map(|who| &both.cast[who]);
        assert_eq!(holder, expected, "seed {seed}, act {number}: who holds");
        for transfer in both.real[session].news() {
            assert!(transfer.from != transfer.to, "seed {seed}, act {number}: {transfer:?}");
        }
    }
}

#[test]
fn a_million_acts_come_out_as_the_model_says() {
    std::thread::scope(|scope| {
        for seed in [1, 2, 2_026, 7_331] {
            scope.spawn(move || play(seed, 250_000));
        }
    });
}
