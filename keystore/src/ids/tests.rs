//! Ids: never reused, whatever happens to files, processes and power.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;

use farwire_protocol::failure::Kind as Failed;
use proptest::prelude::*;
use proptest::sample::Index;

use super::reserve::Boot;
use super::*;
use crate::Home;
use crate::crowd;
use crate::steps::power;

const BOOT: Boot = Boot([1; 16]);

struct Case {
    temp: tempfile::TempDir,
    dir: Dir,
}

impl Case {
    fn new() -> Self {
        let temp = crowd::fast_directory();
        let dir = Dir::create(&temp.path().join("home")).unwrap();
        Self { temp, dir }
    }

    fn ids(&self) -> Ids {
        self.after(BOOT)
    }

    fn after(&self, boot: Boot) -> Ids {
        Ids::with_boot(self.dir.clone(), boot)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.temp.path().join("home").join(name)
    }
}

fn job(number: u64) -> KnownJob {
    let mut job = [0; 16];
    job[..8].copy_from_slice(&number.to_be_bytes());
    KnownJob {
        class: Class::Run,
        agent: Id([3; 32]),
        server: "web-1".into(),
        job: Nonce(job),
        asked: JobOrigin::Here,
        started: 7,
    }
}

#[test]
fn an_id_is_a_letter_and_a_number() {
    for (text, class, number) in
        [("r12", Class::Run, 12), ("s3", Class::Session, 3), ("f2", Class::Forward, 2)]
    {
        let id: ShortId = text.parse().unwrap();
        assert_eq!((id, id.to_string().as_str()), (ShortId { class, number }, text));
    }
    for bad in ["", "r", "12", "x1", "r-1", "r+1", "r1 ", "r99999999999999999999", "é1", "R1"] {
        assert!(bad.parse::<ShortId>().is_err(), "{bad}");
    }
}

#[test]
fn numbers_follow_each_other_across_processes_and_lead_to_their_jobs() {
    let case = Case::new();
    let (one, other) = (case.ids(), case.ids());
    for number in 1..50 {
        let ids = if number % 3 == 0 { &one } else { &other };
        let id = ids.assign(job(number)).unwrap();
        assert_eq!(id.to_string(), format!("r{number}"));
    }
    for ids in [&one, &other, &case.ids()] {
        assert_eq!(ids.find("r7".parse().unwrap()).unwrap(), Some(job(7)));
        assert_eq!(ids.find("s7".parse().unwrap()).unwrap(), None);
        assert_eq!(ids.find("r50".parse().unwrap()).unwrap(), None);
        assert_eq!(ids.damaged().unwrap(), 0);
    }
}

#[test]
fn a_job_that_is_seen_first_gets_an_id_and_keeps_it() {
    let case = Case::new();
    let (one, other) = (case.ids(), case.ids());
    let started = one.assign(job(1)).unwrap();
    assert_eq!(other.id_of(job(1)).unwrap(), started);
    let session = KnownJob { class: Class::Session, ..job(2) };
    let seen = other.id_of(session.clone()).unwrap();
    assert_eq!(seen.to_string(), "s2");
    assert_eq!(
        (one.id_of(session.clone()).unwrap(), other.id_of(session.clone()).unwrap()),
        (seen, seen)
    );
    let elsewhere = KnownJob { agent: Id([4; 32]), ..session };
    assert_ne!(one.id_of(elsewhere).unwrap(), seen, "another agent's job with the same number");
}

#[test]
fn what_was_asked_for_here_is_told_from_what_was_seen() {
    let case = Case::new();
    let seen = KnownJob { asked: JobOrigin::Elsewhere, ..job(2) };
    let (own, others) =
        (case.ids().assign(job(1)).unwrap(), case.ids().id_of(seen.clone()).unwrap());
    // A job that is seen again keeps its origin.
    assert_eq!(case.ids().id_of(KnownJob { asked: JobOrigin::Elsewhere, ..job(1) }).unwrap(), own);
    let asked = |id| case.ids().find(id).unwrap().unwrap().asked;
    assert_eq!((asked(own), asked(others)), (JobOrigin::Here, JobOrigin::Elsewhere));
}

#[test]
fn what_is_no_name_is_not_written() {
    let case = Case::new();
    let bad = KnownJob { server: "a\nb".into(), ..job(1) };
    assert_eq!(case.ids().assign(bad).unwrap_err().kind, Failed::InvalidArgument);
    assert!(!case.file("ids.log").exists());
}

#[test]
fn sixteen_numbers_cost_one_reservation_and_a_new_start_skips_the_rest() {
    let case = Case::new();
    for number in 1..=5 {
        assert_eq!(case.ids().assign(job(number)).unwrap().number, number);
    }
    let later = case.after(Boot([2; 16]));
    assert_eq!(later.assign(job(6)).unwrap().number, 17);
    assert_eq!(case.after(Boot([2; 16])).assign(job(7)).unwrap().number, 18);
    assert_eq!(case.after(Boot([0; 16])).assign(job(8)).unwrap().number, 33);
    assert_eq!(case.after(Boot([0; 16])).assign(job(9)).unwrap().number, 49, "an unknown start");
}

#[test]
fn one_damaged_line_is_lost_and_no_other() {
    let case = Case::new();
    let count = 6_u64;
    let ids = case.ids();
    for number in 1..=count {
        ids.assign(job(number)).unwrap();
    }
    let good = fs::read(case.file("ids.log")).unwrap();
    let head = good.iter().position(|&byte| byte == b'\n').unwrap() + 2;
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(case.file("ids.log"), &bad).unwrap();
        let ids = case.ids();
        let found = (1..=count)
            .filter(|&number| {
                let job = ids.find(ShortId { class: Class::Run, number }).unwrap();
                assert!(job.is_none() || job == Some(self::job(number)));
                job.is_some()
            })
            .count();
        let lost = usize::from(bit / 8 >= head - 1 && bit / 8 != good.len() - 1);
        assert!(found + lost >= count as usize, "bit {bit}: {found} found");
        assert!(found == count as usize || ids.damaged().unwrap() == 1, "bit {bit} is said");
    }
    let mut bad = good;
    bad[head + 40] ^= 1;
    fs::write(case.file("ids.log"), bad).unwrap();
    let ids = case.ids();
    assert_eq!(ids.find("r1".parse().unwrap()).unwrap(), None);
    assert_eq!(ids.assign(job(1)).unwrap().number, count + 1, "the number is not given again");
    assert_eq!(ids.damaged().unwrap(), 1);
}

#[test]
fn a_line_that_was_cut_off_spoils_no_later_one() {
    let case = Case::new();
    case.ids().assign(job(1)).unwrap();
    let whole = fs::read(case.file("ids.log")).unwrap();
    case.ids().assign(job(2)).unwrap();
    let full = fs::read(case.file("ids.log")).unwrap();
    for length in whole.len()..full.len() {
        fs::write(case.file("ids.log"), &full[..length]).unwrap();
        let ids = case.ids();
        assert!(ids.find("r1".parse().unwrap()).unwrap().is_some());
        let id = ids.assign(job(3)).unwrap();
        assert_eq!(ids.find(id).unwrap(), Some(job(3)), "cut to {length}");
        assert!(ids.find("r1".parse().unwrap()).unwrap().is_some());
    }
}

#[test]
fn a_long_log_is_written_anew_and_keeps_the_newest() {
    let case = Case::new();
    let (writer, reader) = (case.ids(), case.ids());
    let (mut longest, mut shrunk) = (0, 0);
    let session = KnownJob { class: Class::Session, ..job(1 << 40) };
    assert_eq!(writer.assign(session.clone()).unwrap().number, 1);
    for number in 2..=24_000 {
        writer.assign(job(number)).unwrap();
        let length = fs::metadata(case.file("ids.log")).unwrap().len();
        if length < longest {
            shrunk += 1;
        }
        longest = length;
        assert!(length < (2 << 20) + 1024);
        if number % 1000 == 0 {
            assert!(reader.id_of(job(5)).unwrap().number == 5);
            let id = ShortId { class: Class::Run, number };
            assert_eq!(reader.find(id).unwrap(), Some(job(number)));
        }
    }
    assert!(shrunk > 0);
    assert_eq!(reader.id_of(job(5)).unwrap().number, 5, "one that is in use stays");
    for number in 20_000..=24_000 {
        let id = ShortId { class: Class::Run, number };
        assert_eq!(reader.find(id).unwrap(), Some(job(number)));
    }
    assert_eq!(reader.find("r2".parse().unwrap()).unwrap(), None);
    let id = ShortId { class: Class::Session, number: 1 };
    assert_eq!(reader.find(id).unwrap(), Some(session), "a session may live for long");
    assert_eq!((reader.damaged().unwrap(), case.ids().damaged().unwrap()), (0, 0));
}

#[test]
fn a_lost_or_emptied_file_of_numbers_is_an_error_and_not_a_new_beginning() {
    let case = Case::new();
    case.ids().assign(job(1)).unwrap();
    let good = fs::read(case.file("ids")).unwrap();
    for bad in [&b""[..], b"farwire", &vec![0; good.len()], &good[..50]] {
        fs::write(case.file("ids"), bad).unwrap();
        let failure = case.ids().assign(job(2)).unwrap_err();
        assert_eq!(failure.kind, Failed::KeystoreCorrupt);
        assert!(failure.message.contains(case.file("ids").to_str().unwrap()), "{failure}");
        assert_eq!(fs::read(case.file("ids")).unwrap(), bad, "nothing is made anew");
    }
    fs::remove_file(case.file("ids")).unwrap();
    assert_eq!(case.ids().assign(job(2)).unwrap_err().kind, Failed::KeystoreCorrupt);
    fs::remove_file(case.file("ids.log")).unwrap();
    assert_eq!(case.ids().assign(job(2)).unwrap().number, 1, "both removed on purpose");
}

#[test]
fn a_log_that_is_far_too_long_is_damaged() {
    let case = Case::new();
    case.ids().assign(job(1)).unwrap();
    let log = fs::OpenOptions::new().write(true).open(case.file("ids.log")).unwrap();
    log.set_len(33 << 20).unwrap();
    assert_eq!(case.ids().find("r1".parse().unwrap()).unwrap_err().kind, Failed::KeystoreCorrupt);
}

/// What happens to the files between two numbers.
#[derive(Clone, Debug)]
enum Fate {
    /// Nothing.
    Peace,
    /// Another process continues.
    Handover,
    /// The power fails: each write to a slot of `ids` since the last sync survives or is lost; of
    /// the log, any prefix survives.
    PowerCut(Index, Index),
    /// A bit of a file changes.
    Flip(bool, Index, u8),
    /// The log is lost.
    NoLog,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        4 => Just(Fate::Peace),
        2 => Just(Fate::Handover),
        2 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Fate::PowerCut(a, b)),
        2 => (any::<bool>(), any::<Index>(), 0..8_u8).prop_map(|(a, b, c)| Fate::Flip(a, b, c)),
        1 => Just(Fate::NoLog),
    ]
}

fn flip(path: &std::path::Path, at: Index, bit: u8, places: bool) {
    let mut bytes = fs::read(path).unwrap();
    if bytes.is_empty() {
        return;
    }
    // The bytes between the two slots mean nothing: aim at the slots.
    let at = if places {
        (at.index(212) % 106) + (at.index(212) / 106) * 4096
    } else {
        at.index(bytes.len())
    };
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << bit;
    }
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_number_is_given_twice_whatever_happens(
        fates in prop::collection::vec((fate(), 1_u64..40), 1..12),
    ) {
        let case = Case::new();
        let mut boot = 1;
        let mut ids = case.ids();
        let mut given = HashSet::new();
        let mut since_sync = Vec::new();
        let mut reserved = 0;
        for (fate, count) in fates {
            for _ in 0..count {
                let number = ids.assign(job(given.len() as u64)).unwrap().number;
                prop_assert!(given.insert(number), "{number} twice");
                if (number - 1) / 16 != reserved {
                    reserved = (number - 1) / 16;
                    since_sync.clear();
                }
                since_sync.push(fs::read(case.file("ids")).unwrap());
            }
            match fate {
                Fate::Peace => {}
                Fate::Handover => ids = case.after(Boot([boot; 16])),
                Fate::PowerCut(state, length) => {
                    fs::write(case.file("ids"), &since_sync[state.index(since_sync.len())]).unwrap();
                    let log = fs::read(case.file("ids.log")).unwrap();
                    fs::write(case.file("ids.log"), &log[..length.index(log.len() + 1)]).unwrap();
                    boot += 1;
                    ids = case.after(Boot([boot; 16]));
                }
                Fate::Flip(true, at, bit) => flip(&case.file("ids"), at, bit, true),
                Fate::Flip(false, at, bit) => flip(&case.file("ids.log"), at, bit, false),
                Fate::NoLog => fs::remove_file(case.file("ids.log")).unwrap(),
            }
        }
    }
}

#[test]
fn a_disk_that_refuses_gives_no_number_away() {
    let prepare = |path: &std::path::Path| {
        let home = Home::create(path).unwrap();
        let ids = home.ids();
        for number in 1..=16 {
            ids.assign(job(number)).unwrap();
        }
    };
    let assign = |path: &std::path::Path| {
        let home = Home::open(path)?;
        home.ids().assign(job(17)).map(drop)
    };
    power::fail_everywhere(
        prepare,
        |path| assign(path).and_then(|()| more(path)),
        |path| {
            let ids = Home::open(path).unwrap().ids();
            assert!(ids.assign(job(99)).unwrap().number >= 17);
            assert_eq!(ids.damaged().unwrap(), 0);
        },
    );
}

fn more(path: &std::path::Path) -> Result<(), Failure> {
    let ids = Home::open(path)?.ids();
    (18..40).try_for_each(|number| ids.assign(job(number)).map(drop))
}

#[test]
fn many_processes_get_numbers_of_their_own() {
    const EACH: u64 = 1000;
    if let Some((path, member)) = crowd::member() {
        let ids = Home::open(&path).unwrap().ids();
        let base = (member as u64 + 1) * 10_000;
        for number in 0..EACH {
            ids.assign(job(base + number)).unwrap();
            // All processes see the same foreign jobs at the same time.
            ids.id_of(job(number % 100)).unwrap();
        }
        return;
    }
    let temp = crowd::fast_directory();
    let home = Home::create(&temp.path().join("home")).unwrap();
    crowd::gather("ids::tests::many_processes_get_numbers_of_their_own", home.path());
    let ids = home.ids();
    let total = crowd::SIZE as u64 * EACH + 100;
    assert_eq!(ids.assign(job(1 << 40)).unwrap().number, total + 1, "none twice, and no gap");
    let jobs: HashSet<_> = (1..=total)
        .filter_map(|number| ids.find(ShortId { class: Class::Run, number }).unwrap())
        .map(|job| job.job.0)
        .collect();
    assert_eq!(ids.damaged().unwrap(), 0);
    assert!(jobs.len() > 3000, "the log keeps the newest: {}", jobs.len());
}

#[test]
fn threads_share_one_set_of_ids() {
    let case = Case::new();
    let ids = case.ids();
    let numbers: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let ids = &ids;
                scope.spawn(move || {
                    (0..200)
                        .map(|n| ids.assign(job(thread * 1000 + n)).unwrap().number)
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let different: HashSet<_> = numbers.iter().collect();
    assert_eq!((numbers.len(), different.len()), (1600, 1600));
}
