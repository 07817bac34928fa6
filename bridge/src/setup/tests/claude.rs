//! `farwire setup claude`.

use expect_test::expect;
use serde_json::json;

use super::*;

const FILE: &str = ".claude.json";
const SETTINGS: &str = ".claude/settings.json";

const BUSY: &str = r#"{
  "numStartups": 7,
  "z": {"b": 1, "a": [1,  2]},
  "mcpServers": {
    "other": {
      "command": "other"
    }
  },
  "projects": {
    "/home/me/x": { "mcpServers": {} }
  },
  "big": 12345678901234567890.10
}
"#;

#[test]
fn installed() {
    let world = World::with(FILE, BUSY);
    world.check(
        "claude",
        expect![[r#"
            claude: installed in /home/.claude.json (restart Claude Code to load it)
              runs /opt/farwire/bin/farwire mcp serve --client claude
              the old file is /home/.claude.json.farwire-backup
            claude: permission for servers, status, output in /home/.claude/settings.json
        "#]],
    );
    expect![[r#"
        {
          "numStartups": 7,
          "z": {"b": 1, "a": [1,  2]},
          "mcpServers": {
            "other": {
              "command": "other"
            },
            "farwire": {
              "type": "stdio",
              "command": "/opt/farwire/bin/farwire",
              "args": [
                "mcp",
                "serve",
                "--client",
                "claude"
              ],
              "env": {},
              "timeout": 600000
            }
          },
          "projects": {
            "/home/me/x": { "mcpServers": {} }
          },
          "big": 12345678901234567890.10
        }
    "#]]
    .assert_eq(&world.read(FILE));
    expect![[r#"
        {
          "permissions": {
            "allow": [
              "mcp__farwire__servers",
              "mcp__farwire__status",
              "mcp__farwire__output"
            ]
          }
        }
    "#]]
    .assert_eq(&world.read(SETTINGS));
    assert_eq!(world.read(".claude.json.farwire-backup"), BUSY);
}

#[test]
fn repaired() {
    let before = r#"{"mcpServers":{"farwire":{"alwaysLoad":true,"command":"/old/farwire","args":["mcp","serve","--client=claude","--read-only"],"env":{"TOKEN":"s3cret"},"timeout":1000}}}"#;
    let world = World::with(FILE, before);
    world.check(
        "claude",
        expect![[r#"
            claude: repaired in /home/.claude.json (restart Claude Code to load it)
              runs /opt/farwire/bin/farwire mcp serve --client=claude --read-only
              the old file is /home/.claude.json.farwire-backup
        "#]],
    );
    expect![[r#"{"mcpServers":{"farwire":{"alwaysLoad":true,"command":"/opt/farwire/bin/farwire","args":["mcp","serve","--client=claude","--read-only"],"env":{"TOKEN":"s3cret"},"timeout":600000,"type":"stdio"}}}"#]].assert_eq(&world.read(FILE));
    let repaired = world.snapshot();
    assert_eq!(world.setup("claude").status, SetupStatus::AlreadyConfigured);
    assert_eq!(world.snapshot(), repaired);
}

#[test]
fn already_configured() {
    let world = World::new();
    world.setup("claude");
    let before = world.snapshot();
    world.check(
        "claude",
        expect![[r#"
            claude: already configured in /home/.claude.json
        "#]],
    );
    assert_eq!(world.snapshot(), before);
}

#[test]
fn conflict() {
    let before =
        r#"{"mcpServers": {"farwire": {"type": "http", "url": "https://x/?key=s3cret"}, "x": {}}}"#;
    let world = World::with(FILE, before);
    let files = world.snapshot();
    world.check(
        "claude",
        expect![[r#"
            claude: conflict in /home/.claude.json
            error[configuration]: `farwire` in `/home/.claude.json` is not Farwire's: it is a server at a URL
            hint: use `--name` to choose another name, or `--force` to replace the entry
        "#]],
    );
    assert_eq!(world.setup("claude --remove").status, SetupStatus::Conflict);
    assert_eq!(world.snapshot(), files);
    world.setup("claude --force");
    expect![[r#"{"mcpServers": {"farwire": {"type": "stdio", "command": "/opt/farwire/bin/farwire", "args": ["mcp", "serve", "--client", "claude"], "env": {}, "timeout": 600000}, "x": {}}}"#]].assert_eq(&world.read(FILE));
    assert_eq!(world.setup("claude").status, SetupStatus::AlreadyConfigured);
}

#[test]
fn what_the_command_prints_can_be_pasted() {
    let world = World::new();
    world.check(
        "claude --print",
        expect![[r#"
            {
              "mcpServers": {
                "farwire": {
                  "type": "stdio",
                  "command": "/opt/farwire/bin/farwire",
                  "args": [
                    "mcp",
                    "serve",
                    "--client",
                    "claude"
                  ],
                  "env": {},
                  "timeout": 600000
                }
              }
            }
        "#]],
    );
}

#[test]
fn tools_that_change_something_are_allowed_with_the_flag_only() {
    let world = World::with(SETTINGS, r#"{"permissions": {"allow": ["Bash(ls:*)"]}}"#);
    let allowed = || -> Value {
        serde_json::from_str::<Value>(&world.read(SETTINGS)).unwrap()["permissions"]["allow"]
            .clone()
    };
    world.setup("claude");
    let read_only =
        ["Bash(ls:*)", "mcp__farwire__servers", "mcp__farwire__status", "mcp__farwire__output"];
    assert_eq!(allowed(), json!(read_only));
    assert_eq!(world.setup("claude --approve").status, SetupStatus::Repaired);
    let all = read_only.iter().chain(&["mcp__farwire__run", "mcp__farwire__stop"]);
    assert_eq!(allowed(), json!(all.collect::<Vec<_>>()));
    assert_eq!(
        world.setup("claude").status,
        SetupStatus::AlreadyConfigured,
        "nothing is taken back silently"
    );
    fs::write(world.home(SETTINGS), "{}").unwrap();
    world.setup("claude");
    assert_eq!(world.read(SETTINGS), "{}", "what was taken away is not given back silently");
    world.setup("claude --approve");
    fs::remove_file(world.home(".claude/settings.json.farwire-backup")).unwrap();
    world.setup("claude --remove");
    assert!(!world.home(SETTINGS).exists());
    assert!(!world.home(FILE).exists());
}

#[test]
fn rules_of_others_stay() {
    let before =
        "{\"permissions\": {\"allow\": [\"Bash(ls:*)\"], \"deny\": [\"mcp__farwire__run\"]}}\n";
    let world = World::with(SETTINGS, before);
    world.setup("claude --approve");
    assert_ne!(world.read(SETTINGS), before);
    world.setup("claude --remove");
    assert_eq!(world.read(SETTINGS), before);
}

#[test]
fn removing_restores_every_byte() {
    for before in [
        "",
        "\n",
        "{}",
        "{ }\n",
        "{\n}\n",
        BUSY,
        "{\"a\":1}",
        "{\"mcpServers\": {}}",
        "{\n\t\"mcpServers\": {\n\t},\n\t\"a\": [ ]\n}",
        "{\r\n  \"a\": 1\r\n}\r\n",
        "\u{feff}{\"a\": \"\\u00e4  x\"}\n",
        "{\"mcpServers\": {\"x\": {\"command\": \"x\"}}}",
    ] {
        round_trip("claude", FILE, before.as_bytes());
        round_trip("claude", SETTINGS, before.as_bytes());
    }
    round_trip("claude", SETTINGS, br#"{"permissions": {"allow": [ ], "deny": []}}"#);
}

#[test]
fn removing_keeps_what_was_written_since() {
    let world = World::with(FILE, BUSY);
    world.setup("claude");
    let changed = world.read(FILE).replace("\"numStartups\": 7", "\"numStartups\": 8");
    fs::write(world.home(FILE), changed).unwrap();
    world.check(
        "claude --remove",
        expect![[r#"
            claude: removed from /home/.claude.json
              the old file is /home/.claude.json.farwire-backup
            claude: removed from /home/.claude/settings.json
        "#]],
    );
    assert_eq!(world.read(FILE), BUSY.replace(": 7", ": 8"));
}

#[test]
fn a_malformed_file_is_named_with_its_line_and_nothing_is_written() {
    let world = World::with(FILE, "{\n  \"a\": 1,\n}\n");
    let before = world.snapshot();
    world.check(
        "claude",
        expect![[r#"
            error[configuration]: `/home/.claude.json` line 3, column 1: expected a key in quotes
            hint: correct the file where the message says
        "#]],
    );
    assert_eq!(world.snapshot(), before);
    let world = World::with(FILE, "{\"mcpServers\": []}");
    world.check(
        "claude",
        expect![[r#"
            error[configuration]: `/home/.claude.json` line 1, column 16: `mcpServers` is not an object
            hint: correct the file where the message says
        "#]],
    );
    // The second document is read before the first is written.
    let world = World::with(SETTINGS, "{\"permissions\": {\"allow\": {}}}");
    let before = world.snapshot();
    world.check("claude", expect![[r#"
        error[configuration]: `/home/.claude/settings.json` line 1, column 27: `allow` is not an array
        hint: correct the file where the message says
    "#]]);
    assert_eq!(world.snapshot(), before);
}

#[test]
fn the_directory_can_be_named_and_a_project_has_its_own() {
    let mut world = World::new();
    world.context.env.insert("CLAUDE_CONFIG_DIR".into(), "elsewhere".into());
    let report = world.setup("claude");
    assert_eq!(report.file, world.context.cwd.join("elsewhere/.claude.json"));
    assert_eq!(report.also[0].file, world.context.cwd.join("elsewhere/settings.json"));
    let report = world.setup("claude --scope project");
    assert_eq!(report.file, world.context.cwd.join(".mcp.json"));
    assert_eq!(report.also[0].file, world.context.cwd.join(".claude/settings.json"));
}

#[test]
fn a_file_of_many_megabytes_keeps_every_byte_but_ours() {
    let history = format!("\"{}\",\n", "x\\\"[{".repeat(100)).repeat(10_000);
    let before =
        format!("{{\n  \"history\": [{history}1],\n  \"mcpServers\": {{}},\n  \"last\": 1\n}}\n");
    assert!(before.len() > 5_000_000);
    let world = World::with(FILE, &before);
    world.setup("claude");
    let text = world.read(FILE);
    let (head, tail) = before.split_once("{}").unwrap();
    assert!(text.starts_with(head) && text.ends_with(tail));
    assert_eq!(world.setup("claude").status, SetupStatus::AlreadyConfigured);
    world.setup("claude --remove");
    assert!(world.read(FILE) == before);
}
