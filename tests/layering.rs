//! The sources keep to the layers that `src/lib.rs` draws: a module knows those below it and no others.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::path::{Path, PathBuf};

/// The layers, from the lowest up. A module may name modules of lower layers only; within a layer they are blind
/// to each other. Test code counts too.
const LAYERS: [&[&str]; 8] = [
    &["wire"],
    &["net", "auth", "config", "stats"],
    &["server"],
    &["pool"],
    &["session"],
    &["admin", "metrics"],
    &["app"],
    &["cli", "main", "demo"],
];

#[test]
fn no_arrow_points_up_or_sideways() {
    let wrong: Vec<String> = sources().iter().flat_map(|(path, text)| wrong_arrows(path, text)).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_layer() {
    let strangers: Vec<PathBuf> = sources()
        .into_iter()
        .map(|(path, _)| path)
        .filter(|path| path != Path::new("lib.rs") && layer(&module_path(path)[0]).is_none())
        .collect();
    assert!(strangers.is_empty(), "not in the table of layers: {strangers:?}");
}

#[test]
fn deadpool_is_named_in_two_files_of_the_pool_at_most() {
    let files = files_with("deadpool");
    assert!(files.len() <= 2, "{files:?}");
    assert!(files.iter().all(|path| path.starts_with("pool")), "{files:?}");
}

#[test]
fn there_is_no_unsafe_code() {
    assert_eq!(files_with("unsafe"), Vec::<PathBuf>::new());
}

#[test]
fn the_check_finds_wrong_arrows() {
    let cases = [
        ("wire/header.rs", "use crate::net::Stream;", "wire -> net"),
        ("net.rs", "fn f(x: crate::auth::Method) {}", "net -> auth"),
        ("pool/line.rs", "use crate::{server::Server, wire,\n session::{Link, self}};", "pool -> session"),
        ("pool/mod.rs", "use crate::{config::{self, Config}, stats::Gauge, admin};", "pool -> admin"),
        ("config/ini.rs", "use super::super::stats;", "config -> stats"),
        ("config/mod.rs", "mod tests { use super::super::app::App; }", "config -> app"),
        ("server/mod.rs", "macro_rules! m { () => { $crate::session::x() } }", "server -> session"),
        ("metrics.rs", "#[cfg(test)] mod tests { use crate::admin::Row; }", "metrics -> admin"),
        (
            "session/mod.rs",
            "const C: char = '\"'; use crate::app::A; const D: &str = \"\";",
            "session -> app",
        ),
        ("stats.rs", "use crate::unheard_of::X;", "stats -> unheard_of"),
        ("auth.rs", "pub use super::config as c;", "auth -> config"),
        ("wire/a.rs", "mod m { use crate::{wire::{B}}; use super::super::super::pool; }", "wire -> pool"),
    ];
    for (path, text, expected) in cases {
        let found = wrong_arrows(Path::new(path), text);
        assert!(found.len() == 1 && found[0].contains(expected), "{path}: {text}: {found:?}");
    }
}

#[test]
fn the_check_lets_right_arrows_pass() {
    let cases = [
        ("auth/scram.rs", "use crate::wire::Header; use crate::auth::md5; use super::md5;"),
        ("session/mod.rs", "use crate::{pool::Pool, server, wire::{Header, Scanner}, net};"),
        ("wire/mod.rs", "// use crate::app;\n/* crate::app /* nested */ */ const S: &str = \"crate::app\";"),
        ("wire/mod.rs", "const S: &str = r#\"say \" crate::app\"#; fn f<'a>(x: &'a str) -> char { 'c' }"),
        ("config/mod.rs", "pub mod stats {} mod tests { use super::stats; use super::*; }"),
        ("wire/mod.rs", "pub(crate) fn f() {} pub(in crate::wire) fn g() {}"),
        ("main.rs", "use pgweir::app;"),
        ("lib.rs", "pub use crate::app::run;"),
    ];
    for (path, text) in cases {
        assert_eq!(wrong_arrows(Path::new(path), text), Vec::<String>::new(), "{path}: {text}");
    }
}

/// Each path in `text`, the source at `path` below `src`, that leads to a module it must not know.
fn wrong_arrows(path: &Path, text: &str) -> Vec<String> {
    if path == Path::new("lib.rs") {
        return Vec::new();
    }
    let here = module_path(path);
    let from = &here[0];
    let targets = crate_paths(&tokens(text), here.len());
    let wrong = targets.into_iter().filter(|to| !may_know(from, to));
    wrong.map(|to| format!("src/{}: {from} -> {to}", path.display())).collect()
}

fn may_know(from: &str, to: &str) -> bool {
    from == to || layer(from).zip(layer(to)).is_some_and(|(from, to)| to < from)
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The first name behind every `crate::`, and behind every chain of `super::` that leads to the root. `depth` is
/// that of the file's own module.
fn crate_paths(tokens: &[String], depth: usize) -> Vec<String> {
    let mut found = Vec::new();
    // For each open brace: whether it is the body of an inline module, which is one step deeper.
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at].as_str() {
            "{" => braces.push(at >= 2 && tokens[at - 2] == "mod"),
            "}" => drop(braces.pop()),
            "crate" => at += names_behind(&tokens[at + 1..], &mut found),
            "super" => {
                let supers = tokens[at..].chunks(2).take_while(|pair| *pair == ["super", "::"]).count();
                at += 2 * supers.saturating_sub(1);
                if supers == depth + braces.iter().filter(|inline| **inline).count() {
                    at += names_behind(&tokens[at + 1..], &mut found);
                }
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Collects the names right behind a `::` at the start of `tokens`, one or a group of them. Says how many tokens to
/// leave out: those of a group, whose braces hold no code.
fn names_behind(tokens: &[String], found: &mut Vec<String>) -> usize {
    if tokens.first().is_none_or(|token| token != "::") {
        return 0;
    }
    if tokens.get(1).is_some_and(|token| token != "{") {
        found.push(tokens[1].clone());
        return 0;
    }
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(1) {
        match token.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            name if depth == 1 && matches!(tokens[at - 1].as_str(), "{" | ",") => found.push(name.to_owned()),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The words and signs of a source, without comments and without what is inside of literals.
fn tokens(text: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest).unwrap_or_else(|| {
            let length = word(rest).max(if rest.starts_with("::") { 2 } else { first.len_utf8() });
            if !first.is_whitespace() {
                tokens.push(rest[..length].to_owned());
            }
            length
        });
        rest = &rest[length..];
    }
    tokens
}

/// The length of the comment or literal that `text` starts with.
fn skipped(text: &str) -> Option<usize> {
    if text.starts_with("//") {
        return Some(text.find('\n').unwrap_or(text.len()));
    }
    if text.starts_with("/*") {
        return Some(block_comment(text));
    }
    raw_string(text).or_else(|| quoted(text, '"')).or_else(|| character(text))
}

fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        match text.as_bytes()[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// `r"…"`, `r#"…"#`, with or without a `b` or `c` before.
fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix(['b', 'c']).unwrap_or(text).strip_prefix('r')?;
    let hashes = inner.len() - inner.trim_start_matches('#').len();
    let body = inner[hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let open = text.len() - body.len();
    Some(body.find(&end).map_or(text.len(), |at| open + at + end.len()))
}

fn quoted(text: &str, quote: char) -> Option<usize> {
    let body = text.strip_prefix(quote)?;
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(at + 2),
            _ => {}
        }
    }
    Some(text.len())
}

/// A character, but not a lifetime: `'a'` against `'a`.
fn character(text: &str) -> Option<usize> {
    let mut inside = text.strip_prefix('\'')?.chars();
    let first = inside.next()?;
    (first == '\\' || inside.next() == Some('\'')).then(|| quoted(text, '\''))?
}

fn word(text: &str) -> usize {
    text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len())
}

/// The module of a file: `pool/line.rs` is `["pool", "line"]`.
fn module_path(path: &Path) -> Vec<String> {
    let parts = path.with_extension("");
    let mut names: Vec<String> =
        parts.iter().map(|part| part.to_string_lossy().into_owned()).filter(|name| name != "mod").collect();
    if names.is_empty() {
        names.push("mod".to_owned());
    }
    names
}

fn files_with(name: &str) -> Vec<PathBuf> {
    let all = sources().into_iter();
    all.filter(|(_, text)| tokens(text).iter().any(|token| token == name)).map(|(path, _)| path).collect()
}

/// All sources, with their paths below `src`.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(&root).unwrap().to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources below {}", root.display());
    found.sort();
    found
}
