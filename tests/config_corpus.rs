//! Odd configuration files: pgweir starts where PgBouncer starts, refuses what PgBouncer refuses, and reads the same values.
//! The files and what PgBouncer makes of them stand in `tests/fixtures/config/corpus.txt`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

mod common;

use std::path::Path;

use common::{Message, Pgweir, Raw};

const CORPUS: &str = include_str!("fixtures/config/corpus.txt");

struct Case<'a> {
    name: &'a str,
    starts: bool,
    text: String,
    rows: Vec<&'a str>,
}

fn cases(base: &str) -> Vec<Case<'_>> {
    let case = |block: &'static str| {
        let (head, body) = block.split_once('\n').unwrap();
        let (name, outcome) = head.rsplit_once(": ").unwrap();
        let ours = outcome.split_once(", pgweir ").map_or(outcome, |(_, ours)| ours);
        let rows = body.lines().filter_map(|line| line.strip_prefix("--> ")).collect();
        let lines: Vec<_> = body.lines().filter(|line| !line.starts_with("--> ")).collect();
        let text = format!("{}\n", lines.join("\n")).replacen("^\n", base, 1);
        assert!(["starts", "refuses"].contains(&ours), "{head}");
        Case { name, starts: ours == "starts", text, rows }
    };
    CORPUS.split("=== ").skip(1).map(case).collect()
}

fn base(port: u16) -> String {
    format!(
        "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\nlogfile = \n"
    )
}

fn lines(answer: &[Message]) -> Vec<String> {
    let rows = answer.iter().filter(|message| message.tag == b'D').map(Message::columns);
    let cell = |cell: Option<String>| cell.unwrap_or_else(|| "NULL".to_owned());
    rows.map(|row| row.into_iter().map(cell).collect::<Vec<_>>().join("|")).collect()
}

/// Would break with: a file that stops pgweir and not PgBouncer, the other way round, or another value.
#[tokio::test]
async fn odd_files_mean_what_they_mean_to_pgbouncer() {
    // Only an admin may reload; whoever is one when they come stays one.
    let pooler = Pgweir::start_text("odd.ini", |port, _| format!("{}admin_users = admin\n", base(port)));
    let mut admin = Raw::open(pooler.port()).await;
    admin.start(&[("user", "admin"), ("database", "pgbouncer")], "").await;
    let file = pooler.folder().join("odd.ini");
    // A path counts from the working directory.
    let included = Path::new(env!("CARGO_MANIFEST_DIR")).join("inc.ini");
    assert!(!included.exists());
    let base = base(pooler.port());
    let (mut count, mut wrong) = (0, Vec::new());
    for case in cases(&base) {
        // Each begins from the same.
        std::fs::write(&file, &base).unwrap();
        admin.query(&format!("SET conffile = '{}'", file.display())).await;
        admin.query("RELOAD").await;
        let text = case.text.replace("/tmp/con/inc.ini", "tests/fixtures/config/inc.ini");
        let text = text.replace("%include inc.ini", "%include tests/fixtures/config/inc.ini");
        std::fs::write(&file, text).unwrap();
        let answer = admin.query("RELOAD").await;
        let starts = answer.iter().all(|message| message.tag != b'E');
        if starts != case.starts {
            wrong.push(format!("{}: starts: {starts}, {answer:?}", case.name));
        }
        let mut shown = Vec::new();
        for table in ["CONFIG", "DATABASES", "USERS"] {
            shown.extend(lines(&admin.query(&format!("SHOW {table}")).await));
        }
        for row in &case.rows {
            count += 1;
            if !shown.iter().any(|line| line == row) {
                let like = shown.iter().find(|line| line.split('|').next() == row.split('|').next());
                wrong.push(format!("{}: {row} is missing, there is {like:?}", case.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count > 50, "{count}");
}

/// Would break with: a start that is stricter or laxer than a reload.
#[test]
fn a_start_takes_what_a_reload_takes() {
    let folder = std::env::temp_dir().join(format!("pgweir-corpus-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("odd.ini");
    for case in cases(&base(6432)) {
        if case.text.contains("%include") {
            continue;
        }
        std::fs::write(&file, &case.text).unwrap();
        let loaded = pgweir::config::Config::load(&file, &|_| None);
        assert_eq!(loaded.is_ok(), case.starts, "{}: {:?}", case.name, loaded.err());
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
