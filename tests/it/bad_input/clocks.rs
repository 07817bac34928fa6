//! Clocks that are wrong by a day, on one machine at a time.

use std::path::PathBuf;
use std::process::Command;

use farwire_tests::World;

/// A little more than a day, so that it stays one while the test runs.
const DAY: i64 = 86_400 + 1_800;

/// Loaded before the C library, it moves what a program sees of the time of day.
const SHIFT: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(clock, now);
    const char *seconds = getenv("CLOCK_SHIFT");
    if (clock == CLOCK_REALTIME && seconds) now->tv_sec += atol(seconds);
    return done;
}
"#;

/// Builds the library with the C compiler that building Farwire needs.
fn shift(world: &World) -> PathBuf {
    let (source, library) = (world.path("shift.c"), world.path("shift.so"));
    std::fs::write(&source, SHIFT).expect("a file");
    let cc = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let built = Command::new(cc)
        .args(["-shared", "-fPIC", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(built.expect("a C compiler").success());
    library
}

#[tokio::test]
async fn a_clock_that_is_a_day_off_stops_nothing_and_is_named_by_doctor() {
    for program in ["farwire", "farwire-agent", "farwire-relay"] {
        for seconds in [DAY, -DAY] {
            let mut world = World::new().await;
            let library = shift(&world).display().to_string();
            let shift = [("LD_PRELOAD", library), ("CLOCK_SHIFT", seconds.to_string())];
            world.set(program, &shift);
            if program == "farwire-relay" {
                world.kill_relay().await;
                world.start_relay(&[]).await;
            }
            world.enroll("web-1").await;
            world.start_agent("web-1").await;
            let done = world.farwire(&["run", "web-1", "-c", "echo hi; exit 4"]).await;
            assert_eq!((done.code, done.text().as_str()), (4, "hi\n"), "{program}: {done:?}");

            let done = world.farwire(&["doctor"]).await;
            let said = done.text();
            let wrong: Vec<_> = said.lines().filter(|line| line.starts_with("BAD ")).collect();
            // It is theirs that is ahead of ours, or ours that is ahead of theirs.
            let ahead = (program == "farwire") != (seconds > 0);
            let by = if ahead { "ahead of ours" } else { "behind ours" };
            let relays = format!("BAD  clock: the relay's clock is 1d00h {by}");
            let servers = format!("BAD  server web-1 clock: the server's clock is 1d00h {by}");
            match program {
                "farwire" => assert_eq!(wrong, [relays, servers]),
                "farwire-agent" => assert_eq!(wrong, [servers]),
                _ => assert_eq!(wrong, [relays]),
            }
        }
    }
}
