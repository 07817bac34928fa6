//! The names of tools that answers mention: a hint names a tool by its constant here, so that no
//! tool needs another for a word. A test holds each of them against the catalogue.

pub(super) const OUTPUT: &str = "output";
pub(super) const PTY_READ: &str = "pty_read";
pub(super) const PTY_READ_AT: &str = "pty_read_at";
pub(super) const PTY_SPAWN: &str = "pty_spawn";
pub(super) const SESSION_DIAGNOSTICS: &str = "session_diagnostics";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::catalogue::CATALOGUE;

    #[test]
    fn every_name_is_that_of_a_tool() {
        let tools = CATALOGUE.iter().flat_map(|category| category.tools);
        for name in [OUTPUT, PTY_READ, PTY_READ_AT, PTY_SPAWN, SESSION_DIAGNOSTICS] {
            assert!(tools.clone().any(|tool| tool.name == name), "{name}");
        }
    }
}
