//! `${NAME}` in values: the environment variable of that name.

/// Replaces each `${NAME}`; the error is the name of a variable that is not set.
///
/// Only the full form is special: `$1` of a query and a lone `$` in a password stay as they are. What a variable
/// holds is not looked at again.
pub(super) fn expand(text: &str, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, name, after)) = next_variable(rest) {
        expanded.push_str(before);
        expanded.push_str(&variable(name).ok_or_else(|| name.to_owned())?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

/// Whether an environment variable stands in the text.
pub(super) fn has_variable(text: &str) -> bool {
    next_variable(text).is_some()
}

/// Splits at the first `${NAME}`: before, name, after.
fn next_variable(text: &str) -> Option<(&str, &str, &str)> {
    text.match_indices("${").find_map(|(start, opening)| {
        let inside = &text[start + opening.len()..];
        let (name, after) = inside.split_once('}')?;
        is_name(name).then_some((&text[..start], name, after))
    })
}

fn is_name(name: &str) -> bool {
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(text: &str) -> Result<String, String> {
        expand(text, &|name| (name == "HOST").then(|| "db${HOST}".to_owned()))
    }

    #[test]
    fn replaces_only_the_full_form() {
        assert_eq!(with("a ${HOST} b").as_deref(), Ok("a db${HOST} b"));
        assert_eq!(with("$HOST ${} ${1} $1 ${HO ST} $").as_deref(), Ok("$HOST ${} ${1} $1 ${HO ST} $"));
        assert_eq!(with("${${HOST}").as_deref(), Ok("${db${HOST}"));
        assert_eq!(with("${HOST").as_deref(), Ok("${HOST"));
    }

    #[test]
    fn names_a_variable_that_is_not_set() {
        assert_eq!(with("${HOST}${PORT}"), Err("PORT".to_owned()));
    }
}
