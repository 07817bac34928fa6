//! `farwire setup codex`.

use expect_test::expect;
use proptest::prelude::*;
use serde_json::json;
use toml_edit::DocumentMut;

use super::*;

const FILE: &str = ".codex/config.toml";

const BUSY: &str = r#"# My settings
model = "gpt"   # the good one

[mcp_servers.other] # somebody else's
command = 'other'
args = [
    "a", # first
    "b",
]

[projects."/home/me/x"]
trust_level = "trusted"
# trust_level = "untrusted"
"#;

#[test]
fn installed() {
    let world = World::with(FILE, BUSY);
    world.check(
        "codex",
        expect![[r#"
            codex: installed in /home/.codex/config.toml (restart Codex to load it)
              runs /opt/farwire/bin/farwire mcp serve --client codex
              the old file is /home/.codex/config.toml.farwire-backup
        "#]],
    );
    let installed = world.read(FILE);
    let added = installed.strip_prefix(BUSY).expect("what was there stays, byte for byte");
    expect![[r#"

        [mcp_servers.farwire]
        command = "/opt/farwire/bin/farwire"
        args = ["mcp", "serve", "--client", "codex"]
        startup_timeout_sec = 30
        tool_timeout_sec = 300
        supports_parallel_tool_calls = true
        env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
        default_tools_approval_mode = "writes"
    "#]]
    .assert_eq(added);
    assert_eq!(world.read(".codex/config.toml.farwire-backup"), BUSY);
}

#[test]
fn repaired() {
    let before = r#"[mcp_servers.farwire] # ours
# It was moved.
command = "/old/place/farwire"   # where it was
args = ["mcp", "serve", "--read-only", "--client", "codex"]
tool_timeout_sec = 60
startup_timeout_sec = 45.5
env_vars = ["MY_VARIABLE", "FARWIRE_HOME"]
default_tools_approval_mode = "prompt"
enabled = true

[mcp_servers.farwire.env]
TOKEN = "s3cret"

[mcp_servers.farwire.tools.run]
approval_mode = "prompt" # I want to see it

[other]
"#;
    let world = World::with(FILE, before);
    world.check(
        "codex",
        expect![[r#"
            codex: repaired in /home/.codex/config.toml (restart Codex to load it)
              runs /opt/farwire/bin/farwire mcp serve --read-only --client codex
              the old file is /home/.codex/config.toml.farwire-backup
        "#]],
    );
    expect![[r#"
        [mcp_servers.farwire] # ours
        # It was moved.
        command = "/opt/farwire/bin/farwire"   # where it was
        args = ["mcp", "serve", "--read-only", "--client", "codex"]
        tool_timeout_sec = 300
        startup_timeout_sec = 45.5
        env_vars = ["MY_VARIABLE", "FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
        default_tools_approval_mode = "prompt"
        enabled = true
        supports_parallel_tool_calls = true

        [mcp_servers.farwire.env]
        TOKEN = "s3cret"

        [mcp_servers.farwire.tools.run]
        approval_mode = "prompt" # I want to see it

        [other]
    "#]].assert_eq(&world.read(FILE));
    assert_eq!(world.read(".codex/config.toml.farwire-backup"), before);
    let repaired = world.snapshot();
    assert_eq!(world.setup("codex").status, SetupStatus::AlreadyConfigured);
    assert_eq!(world.snapshot(), repaired);
    let entry = world.setup("codex").entry.unwrap();
    assert_eq!(entry["env"], json!({"TOKEN": "…"}), "what may be secret is not shown");
}

#[test]
fn already_configured() {
    let world = World::new();
    world.setup("codex");
    let before = world.snapshot();
    world.check(
        "codex",
        expect![[r#"
            codex: already configured in /home/.codex/config.toml
        "#]],
    );
    assert_eq!(world.snapshot(), before);
}

#[test]
fn conflict() {
    let before = "[mcp_servers.farwire]\ncommand = \"/usr/bin/other\"\n# mine\n\n[z]\n";
    let world = World::with(FILE, before);
    let files = world.snapshot();
    world.check("codex", expect![[r#"
        codex: conflict in /home/.codex/config.toml
        error[configuration]: `farwire` in `/home/.codex/config.toml` is not Farwire's: it runs `/usr/bin/other`
        hint: use `--name` to choose another name, or `--force` to replace the entry
    "#]]);
    world.check("codex --remove", expect![[r#"
        codex: conflict in /home/.codex/config.toml
        error[configuration]: `farwire` in `/home/.codex/config.toml` is not Farwire's: it runs `/usr/bin/other`
        hint: use `--name` to choose another name, or `--force` to replace the entry
    "#]]);
    assert_eq!(world.snapshot(), files);
    world.check(
        "codex --force",
        expect![[r#"
            codex: installed in /home/.codex/config.toml (restart Codex to load it)
              runs /opt/farwire/bin/farwire mcp serve --client codex
              the old file is /home/.codex/config.toml.farwire-backup
        "#]],
    );
    expect![[r##"
        # mine

        [z]

        [mcp_servers.farwire]
        command = "/opt/farwire/bin/farwire"
        args = ["mcp", "serve", "--client", "codex"]
        startup_timeout_sec = 30
        tool_timeout_sec = 300
        supports_parallel_tool_calls = true
        env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
        default_tools_approval_mode = "writes"
    "##]]
    .assert_eq(&world.read(FILE));
    assert_eq!(world.setup("codex").status, SetupStatus::AlreadyConfigured);
}

#[test]
fn other_forms_of_a_foreign_entry_are_conflicts_too() {
    for before in [
        "mcp_servers.farwire.url = 'https://x/?key=s3cret'\n",
        "mcp_servers = { farwire = 5 }\n",
        "[[mcp_servers.farwire]]\ncommand = 'farwire'\n",
        "[mcp_servers]\nfarwire = []\n",
    ] {
        let world = World::with(FILE, before);
        assert_eq!(world.setup("codex").status, SetupStatus::Conflict, "{before}");
        assert!(!world.says("codex").contains("s3cret"));
        assert_eq!(world.setup("codex --force").status, SetupStatus::Installed, "{before}");
        assert_eq!(world.setup("codex").status, SetupStatus::AlreadyConfigured, "{before}");
    }
}

#[test]
fn what_the_command_prints_can_be_pasted() {
    let world = World::new();
    world.check(
        "codex --print --approve",
        expect![[r#"
            [mcp_servers.farwire]
            command = "/opt/farwire/bin/farwire"
            args = ["mcp", "serve", "--client", "codex"]
            startup_timeout_sec = 30
            tool_timeout_sec = 300
            supports_parallel_tool_calls = true
            env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
            default_tools_approval_mode = "writes"

            [mcp_servers.farwire.tools.servers]
            approval_mode = "approve"

            [mcp_servers.farwire.tools.status]
            approval_mode = "approve"

            [mcp_servers.farwire.tools.run]
            approval_mode = "approve"

            [mcp_servers.farwire.tools.output]
            approval_mode = "approve"

            [mcp_servers.farwire.tools.stop]
            approval_mode = "approve"
        "#]],
    );
}

#[test]
fn approvals_are_added_once_and_only_with_the_flag() {
    let world = World::with(FILE, "");
    world.setup("codex");
    assert!(!world.read(FILE).contains("approval_mode = \"approve\""));
    assert_eq!(world.setup("codex --approve").status, SetupStatus::Repaired);
    expect![[r#"
        [mcp_servers.farwire]
        command = "/opt/farwire/bin/farwire"
        args = ["mcp", "serve", "--client", "codex"]
        startup_timeout_sec = 30
        tool_timeout_sec = 300
        supports_parallel_tool_calls = true
        env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
        default_tools_approval_mode = "writes"

        [mcp_servers.farwire.tools.servers]
        approval_mode = "approve"

        [mcp_servers.farwire.tools.status]
        approval_mode = "approve"

        [mcp_servers.farwire.tools.run]
        approval_mode = "approve"

        [mcp_servers.farwire.tools.output]
        approval_mode = "approve"

        [mcp_servers.farwire.tools.stop]
        approval_mode = "approve"
    "#]]
    .assert_eq(&world.read(FILE));
    let approved = world.snapshot();
    assert_eq!(world.setup("codex --approve").status, SetupStatus::AlreadyConfigured);
    assert_eq!(
        world.setup("codex").status,
        SetupStatus::AlreadyConfigured,
        "an approval is not taken back silently"
    );
    assert_eq!(world.snapshot(), approved);
    world.setup("codex --remove");
    assert!(!world.home(FILE).exists(), "the file was ours alone");
}

#[test]
fn removing_restores_every_byte() {
    for before in [
        "",
        "\n\n",
        "a = 1",
        "a = 1\n",
        "a = 1\n\n\n",
        BUSY,
        "# only a comment",
        "a = 1\r\n\r\n[b]\r\nc = \"\"\"\r\nx\r\n\"\"\"\r\n# end\r\n",
        "a = 1\r\nb = 2\n",
        "\u{feff}a = 1\n",
        "[mcp_servers]\n",
        "[mcp_servers] # all\n\n# one\n[mcp_servers.x]\ncommand = 'x'\n# end",
        "mcp_servers.x.command = 'x'\n[y]\n",
        "mcp_servers = { x = { command = 'x' } } # inline\n\n[y]\n",
        "mcp_servers = {}\r\n[y]\r\n",
    ] {
        round_trip("codex", FILE, before.as_bytes());
    }
}

#[test]
fn removing_keeps_what_was_written_since() {
    let world = World::with(FILE, "a = 1\n");
    world.setup("codex --approve");
    let text = world.read(FILE) + "# a note\n\n[later]\nb = 2\n";
    fs::write(world.home(FILE), text).unwrap();
    world.check(
        "codex --remove",
        expect![[r#"
            codex: removed from /home/.codex/config.toml
              the old file is /home/.codex/config.toml.farwire-backup
        "#]],
    );
    assert_eq!(world.read(FILE), "a = 1\n# a note\n\n[later]\nb = 2\n");
    world.check(
        "codex --remove",
        expect![[r#"
            codex: not configured in /home/.codex/config.toml
        "#]],
    );
}

#[test]
fn removing_keeps_the_comments_around_the_entry() {
    let world = World::with(
        FILE,
        "# about a\na = 1\n\n# my servers\n\n[mcp_servers.farwire] # ours\n# inside\ncommand = \"farwire\"\n\n# about b\n[b]\n",
    );
    world.setup("codex --remove");
    assert_eq!(world.read(FILE), "# about a\na = 1\n\n# my servers\n\n# about b\n[b]\n");
}

#[test]
fn a_file_that_was_only_ours_goes_away() {
    let world = World::new();
    assert_eq!(world.setup("codex").backup, None);
    assert_eq!(fs::metadata(world.home(FILE)).unwrap().mode() & 0o777, 0o600);
    world.setup("codex --approve");
    world.setup("codex --remove");
    assert!(world.snapshot().is_empty());
    assert_eq!(world.setup("codex --remove").status, SetupStatus::NotConfigured);
}

/// An entry in another form than ours is repaired in that form, and removed from it.
fn check_form(before: &str, repaired: Expect, removed: &str) {
    let world = World::with(FILE, before);
    assert_eq!(world.setup("codex --approve").status, SetupStatus::Repaired);
    let text = world.read(FILE);
    repaired.assert_eq(&text);
    let parsed: DocumentMut = text.parse().unwrap();
    assert_eq!(
        parsed["mcp_servers"]["farwire"]["tools"]["stop"]["approval_mode"].as_str(),
        Some("approve")
    );
    assert_eq!(world.setup("codex --approve").status, SetupStatus::AlreadyConfigured);
    world.setup("codex --remove");
    assert_eq!(world.read(FILE), removed);
}

#[test]
fn an_inline_table() {
    check_form(
        "a = 1\n[mcp_servers]\nx = { command = 'x' }\nfarwire = { command = 'farwire', args = [] } # ours\n# end\n",
        expect![[r#"
            a = 1
            [mcp_servers]
            x = { command = 'x' }
            farwire = { command = "/opt/farwire/bin/farwire", args = ["mcp", "serve", "--client", "codex"], startup_timeout_sec = 30, tool_timeout_sec = 300, supports_parallel_tool_calls = true, env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"], default_tools_approval_mode = "writes", tools = { servers = { approval_mode = "approve" }, status = { approval_mode = "approve" }, run = { approval_mode = "approve" }, output = { approval_mode = "approve" }, stop = { approval_mode = "approve" } } } # ours
            # end
        "#]],
        "a = 1\n[mcp_servers]\nx = { command = 'x' }\n# end\n",
    );
}

#[test]
fn an_inline_table_of_all_servers() {
    check_form(
        "mcp_servers = { farwire = { command = 'farwire' }, x = { command = 'x' } } # all\nb = 1\n",
        expect![[r#"
            mcp_servers = { farwire = { command = "/opt/farwire/bin/farwire", args = ["mcp", "serve", "--client", "codex"], startup_timeout_sec = 30, tool_timeout_sec = 300, supports_parallel_tool_calls = true, env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"], default_tools_approval_mode = "writes", tools = { servers = { approval_mode = "approve" }, status = { approval_mode = "approve" }, run = { approval_mode = "approve" }, output = { approval_mode = "approve" }, stop = { approval_mode = "approve" } } }, x = { command = 'x' } } # all
            b = 1
        "#]],
        "mcp_servers = { x = { command = 'x' } } # all\nb = 1\n",
    );
}

#[test]
fn dotted_keys_below_a_header() {
    check_form(
        "[mcp_servers]\n# one\nfarwire.command = 'farwire'\nfarwire.env.A = \"x\"\n# two\nx.command = 'x'\n",
        expect![[r#"
            [mcp_servers]
            # one
            farwire.command = "/opt/farwire/bin/farwire"
            farwire.env.A = "x"
            farwire.args = ["mcp", "serve", "--client", "codex"]
            farwire.startup_timeout_sec = 30
            farwire.tool_timeout_sec = 300
            farwire.supports_parallel_tool_calls = true
            farwire.env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
            farwire.default_tools_approval_mode = "writes"
            farwire.tools.servers.approval_mode = "approve"
            farwire.tools.status.approval_mode = "approve"
            farwire.tools.run.approval_mode = "approve"
            farwire.tools.output.approval_mode = "approve"
            farwire.tools.stop.approval_mode = "approve"
            # two
            x.command = 'x'
        "#]],
        "[mcp_servers]\n# one\n# two\nx.command = 'x'\n",
    );
}

#[test]
fn dotted_keys_at_the_top() {
    check_form(
        "mcp_servers.farwire.command = 'farwire'\nmcp_servers.x.command = 'x'\n\n[y]\n",
        expect![[r#"
            mcp_servers.farwire.command = "/opt/farwire/bin/farwire"
            mcp_servers.farwire.args = ["mcp", "serve", "--client", "codex"]
            mcp_servers.farwire.startup_timeout_sec = 30
            mcp_servers.farwire.tool_timeout_sec = 300
            mcp_servers.farwire.supports_parallel_tool_calls = true
            mcp_servers.farwire.env_vars = ["FARWIRE_HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"]
            mcp_servers.farwire.default_tools_approval_mode = "writes"
            mcp_servers.farwire.tools.servers.approval_mode = "approve"
            mcp_servers.farwire.tools.status.approval_mode = "approve"
            mcp_servers.farwire.tools.run.approval_mode = "approve"
            mcp_servers.farwire.tools.output.approval_mode = "approve"
            mcp_servers.farwire.tools.stop.approval_mode = "approve"
            mcp_servers.x.command = 'x'

            [y]
        "#]],
        "mcp_servers.x.command = 'x'\n\n[y]\n",
    );
}

#[test]
fn a_repair_keeps_the_line_ends_of_the_file() {
    let before =
        "a = 1\r\n\r\n[mcp_servers.farwire]\r\ncommand = \"/old/farwire\"\r\n\r\n[z]\r\nb = 1\r\n";
    let world = World::with(FILE, before);
    world.setup("codex");
    let text = world.read(FILE);
    assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{text:?}");
    let mixed = before.replace("a = 1\r\n", "a = 1\n");
    let world = World::with(FILE, &mixed);
    world.setup("codex");
    assert!(world.read(FILE).starts_with("a = 1\n\r\n[mcp_servers.farwire]\r\n"));
    assert!(world.read(FILE).ends_with("\r\n[z]\r\nb = 1\r\n"));
}

#[test]
fn a_malformed_file_is_named_with_its_line_and_left_alone() {
    let world = World::with(FILE, "a = 1\n[b\nc = 2\n");
    let before = world.snapshot();
    world.check("codex", expect![[r#"
        error[configuration]: `/home/.codex/config.toml` line 2, column 3: unclosed table, expected `]`
        hint: correct the file where the message says
    "#]]);
    world.check("codex --remove", expect![[r#"
        error[configuration]: `/home/.codex/config.toml` line 2, column 3: unclosed table, expected `]`
        hint: correct the file where the message says
    "#]]);
    assert_eq!(world.snapshot(), before);
    let world = World::with(FILE, "a = 1\nmcp_servers = [1]\n");
    world.check("codex", expect![[r#"
        error[configuration]: `/home/.codex/config.toml` line 2, column 15: `mcp_servers` is not a table
        hint: correct the file where the message says
    "#]]);
}

#[test]
fn the_directory_can_be_named_and_a_project_has_its_own() {
    let mut world = World::new();
    world.context.env.insert("CODEX_HOME".into(), "elsewhere".into());
    assert_eq!(world.setup("codex").file, world.context.cwd.join("elsewhere/config.toml"));
    let report = world.setup("codex --scope project --name far-2");
    assert_eq!(report.file, world.context.cwd.join(".codex/config.toml"));
    assert_eq!(
        fs::metadata(&report.file).unwrap().mode() & 0o044,
        0o044,
        "a project is read by others"
    );
    assert!(fs::read_to_string(&report.file).unwrap().starts_with("[mcp_servers.far-2]\n"));
}

#[test]
fn a_named_home_of_the_bridge_stands_in_the_entry() {
    let mut world = World::new();
    world.context.farwire_home = Some("state \"x\"".into());
    let entry = world.setup("codex").entry.unwrap();
    let home = world.context.cwd.join("state \"x\"");
    assert_eq!(entry["args"], json!(["mcp", "serve", "--client", "codex", "--home", home]));
    world.context.farwire_home = None;
    assert_eq!(
        world.setup("codex").status,
        SetupStatus::AlreadyConfigured,
        "it stays until it is changed"
    );
    world.context.farwire_home = Some("/other".into());
    let report = world.setup("codex");
    assert_eq!(
        (report.status, &report.entry.unwrap()["args"][5]),
        (SetupStatus::Repaired, &json!("/other"))
    );
}

/// Lines of TOML that are valid in any order, except where a name comes twice.
fn toml() -> impl Strategy<Value = String> {
    let line = prop_oneof![
        Just(String::new()),
        "# .{0,8}",
        "[a-c] = [0-9]{1,3}( # .{0,5})?",
        "[a-c] = \\{ x = 1 \\}",
        "mcp_servers\\.[x-z]\\.command = 'x'",
        "[a-c] = \\[\n  1, # .{0,3}\n  2\n\\]",
        "[a-c] = '''\n.{0,5}\n'''",
        "\\[(t|u|mcp_servers|mcp_servers\\.[x-z]|t\\.[a-c])\\]( # .{0,5})?",
        "\\[\\[(v|w|mcp_servers\\.x\\.list)\\]\\]",
    ];
    let file = prop::collection::vec(line, 0..14);
    (file, any::<bool>(), any::<bool>()).prop_map(|(lines, crlf, end)| {
        let mut text = lines.join("\n");
        if end {
            text.push('\n');
        }
        if crlf { text.replace('\n', "\r\n") } else { text }
    })
}

fn document<T>(test: impl FnOnce(&dyn Document) -> T) -> T {
    let world = World::new();
    let args = parsed("codex --approve").unwrap();
    let job = Job::new(&args, &world.context).unwrap();
    let documents = super::super::codex::Codex.documents(&job);
    test(documents[0].as_ref())
}

/// What stands in the file besides our entry.
fn values(text: &str) -> Value {
    let mut document: DocumentMut = text.parse().unwrap();
    let servers = document.get_mut("mcp_servers").and_then(toml_edit::Item::as_table_like_mut);
    if let Some(servers) = servers {
        servers.remove("farwire");
        if servers.is_empty() {
            document.remove("mcp_servers");
        }
    }
    toml_entry::to_json(document.as_item())
}

proptest! {
    #[test]
    fn whatever_else_stands_in_the_file_stays(text in toml()) {
        document(|document| {
            let Ok(installed) = document.install(&text) else { return Ok(()) };
            prop_assert!(installed.starts_with(&text), "only an end is added");
            prop_assert!(matches!(document.existing_entry(&installed), Ok(ExistingEntry::Ours(_))));
            prop_assert_eq!(values(&installed), values(&text));
            let again = document.install(&installed).map_err(|fault| fault.message);
            prop_assert_eq!(again.as_ref(), Ok(&installed));
            let removed = document.remove(&installed).map_err(|fault| fault.message).unwrap();
            prop_assert!(document.same(&removed, &text), "{removed:?} from {installed:?}");
            Ok(())
        })?;
    }
}

#[test]
fn no_bytes_can_make_an_edit_panic() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        document(|document| {
            if let Ok(installed) = document.install(text) {
                assert!(matches!(document.existing_entry(&installed), Ok(ExistingEntry::Ours(_))));
                let removed = document.remove(&installed).ok().unwrap();
                assert!(matches!(document.existing_entry(&removed), Ok(ExistingEntry::Absent)));
            }
        });
    });
}
