//! TOML or ini? The content tells, whatever the file is called.

use super::Dialect;

/// The language that a text is written in.
///
/// What only one of the two has decides: `;` comments and `%include` are ini, `[databases.app]` is TOML. Otherwise
/// the first value that only one of them can spell does: a bare word or `0777` is ini, a quote, a bracket or a
/// boolean is TOML. A text that says the same in both (or nothing) is read as ini.
pub(super) fn dialect(text: &str) -> Dialect {
    let by_mark = text.lines().find_map(mark);
    by_mark.or_else(|| text.lines().find_map(value)).unwrap_or(Dialect::Ini)
}

/// A line that only one of the two can hold.
fn mark(line: &str) -> Option<Dialect> {
    let line = line.trim_start();
    if line.starts_with(';') || line.starts_with("%include") {
        return Some(Dialect::Ini);
    }
    let header = line.strip_prefix('[')?;
    let dotted =
        ["databases.", "users.", "peers.", "["].iter().any(|start| header.trim_start().starts_with(start));
    dotted.then_some(Dialect::Toml)
}

/// A value that only one of the two can spell.
fn value(line: &str) -> Option<Dialect> {
    let line = line.trim();
    if line.starts_with(['#', '[']) {
        return None;
    }
    let value = line[after_key(line)..].trim_start().strip_prefix('=')?.trim_start();
    let word = value.split(|c: char| c.is_whitespace() || c == '#').next().unwrap_or_default();
    if value.starts_with(['"', '\'', '[', '{']) || matches!(word, "true" | "false") {
        return Some(Dialect::Toml);
    }
    let is_number = word.starts_with(|c: char| c.is_ascii_digit()) && word.parse::<f64>().is_ok();
    let is_octal = word.len() > 1 && word.starts_with('0') && word.bytes().all(|byte| byte.is_ascii_digit());
    let in_both = (is_number && !is_octal) || word.starts_with("0x");
    let only_toml = word.starts_with("0o");
    match (only_toml, in_both) {
        (true, _) => Some(Dialect::Toml),
        (_, true) => None,
        _ => Some(Dialect::Ini),
    }
}

/// Where the key of a line ends.
fn after_key(line: &str) -> usize {
    let quoted = line.strip_prefix('"').and_then(|rest| rest.find('"')).map(|end| end + 2);
    let start = quoted.unwrap_or(0);
    line[start..].find('=').map_or(line.len(), |at| start + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_by_content() {
        for text in [
            "",
            "; comment\n[pgbouncer]\nlisten_port = 6432",
            "[pgbouncer]\nlisten_port = 6432\n",
            "[pgbouncer]\nlisten_addr = 127.0.0.1",
            "[pgbouncer]\nunix_socket_mode = 0777",
            "[databases]\n* = host=a",
            "[databases]\n\"a=b\" = host=a",
            "[databases]\nfoo =",
            "# x\n%include other.ini",
        ] {
            assert_eq!(dialect(text), Dialect::Ini, "{text}");
        }
        for text in [
            "[databases.app]\nhost = db",
            "[pgbouncer]\nlisten_port = 6432\nlisten_addr = [\"*\"]",
            "[pgbouncer]\nlog_stats = true # yes",
            "[pgbouncer]\npool_mode = \"session\"",
            "[databases]\n\"a=b\" = \"host=a\"",
            "[pgbouncer]\nunix_socket_mode = 0o700",
        ] {
            assert_eq!(dialect(text), Dialect::Toml, "{text}");
        }
    }
}
