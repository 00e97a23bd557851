//! "Did you mean …?"

/// The candidate that looks most like `word`, if one looks like it at all.
pub(super) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A file can hold a "word" of any length, and the distance costs its square.
    if word.len() > 64 {
        return None;
    }
    let limit = (word.len() / 4).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The edits that turn one word into another: letters added, dropped, replaced, or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=to.len()).collect();
    let mut previous = None;
    for (row, letter) in from.chars().enumerate() {
        let mut line = vec![row + 1];
        for (column, target) in to.iter().enumerate() {
            let replaced = above[column] + usize::from(letter != *target);
            let mut best = replaced.min(above[column + 1] + 1).min(line[column] + 1);
            if column > 0 && previous == Some(*target) && letter == to[column - 1] {
                best = best.min(before[column - 1] + 1);
            }
            line.push(best);
        }
        before = std::mem::replace(&mut above, line);
        previous = Some(letter);
    }
    above[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_meant() {
        let words = ["pool_mode", "pool_size", "port"];
        assert_eq!(closest("pool_szie", words), Some("pool_size"));
        assert_eq!(closest("prot", words), Some("port"));
        assert_eq!(closest("poolmode", words), Some("pool_mode"));
        assert_eq!(closest("banana", words), None);
        assert_eq!(closest(&"p".repeat(100_000), words), None);
    }

    #[test]
    fn distances() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("ab", "ba"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
    }
}
