//! Commands that are known to take long, so that nobody has to wait to find that out.

use std::sync::LazyLock;

use regex::RegexSet;

/// Commands that install, build, fetch or copy, and commands that never end by themselves.
const PATTERNS: &[&str] = &[
    r"\b(apt|apt-get|dnf|yum|zypper|brew|apk|snap)\s+(-\S+\s+)*(install|add|update|upgrade|dist-upgrade|full-upgrade)\b",
    r"\bpacman\s+-S",
    r"\b(pip3?|npm|yarn|pnpm|gem|composer|poetry|uv|bundle)\s+(-\S+\s+)*(install|ci|add|sync|update)\b",
    r"\b(cargo|go|bazel|gradle|gradlew|mvn|ninja|cmake|dotnet)\s+(-\S+\s+)*(build|test|install|package|--build)\b",
    r"\b(docker|podman)\s+(compose\s+)?(build|pull|push|up)\b",
    r"\bgit\s+clone\b",
    r"\b(rsync|scp)\s",
    r"\btail\s+(-\S+\s+)*-[fF]\b|\bjournalctl\s.*-f\b|\bwatch\s",
];

/// Whether a command is known to be slow.
pub fn is_slow(command: &str) -> bool {
    static SET: LazyLock<RegexSet> =
        LazyLock::new(|| RegexSet::new(PATTERNS).expect("they are expressions"));
    SET.is_match(command)
}

#[cfg(test)]
mod tests {
    use super::is_slow;

    #[test]
    fn installing_is_slow_and_looking_is_not() {
        for slow in [
            "sudo apt-get -y install vim",
            "npm ci",
            "cd x && cargo build --release",
            "docker compose up -d",
            "git clone https://x.example/y",
            "tail -f /var/log/syslog",
        ] {
            assert!(is_slow(slow), "{slow}");
        }
        for quick in
            ["apt list", "ls -l", "git status", "docker ps", "tail -n 5 x", "cargo --version"]
        {
            assert!(!is_slow(quick), "{quick}");
        }
    }
}
