//! How long a file may be: short enough to be read in one go.

use super::{File, Violation};

const CEILING: usize = 400;
const MEDIAN: usize = 160;

/// Judges one tree of sources.
pub fn violations(tree: &str, files: &[File]) -> Vec<Violation> {
    let mut sizes: Vec<(usize, &str)> =
        files.iter().map(|(path, text)| (text.lines().count(), path.as_str())).collect();
    sizes.sort_unstable();
    let mut found: Vec<Violation> = sizes
        .iter()
        .filter(|(lines, _)| *lines > CEILING)
        .map(|(lines, path)| format!("{path}:{lines}: a file has at most {CEILING} lines; split it by concern"))
        .collect();
    if let Some((median, path)) = sizes.get(sizes.len() / 2)
        && *median > MEDIAN
    {
        found.push(format!("{tree}: the median file, {path}, has {median} lines; at most {MEDIAN}"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{super::file, violations};

    fn of_lines(lines: usize) -> super::File {
        file("src/a.rs", &"\n".repeat(lines))
    }

    #[test]
    fn a_file_within_the_budget_passes() {
        assert_eq!(violations("src", &[]), [""; 0]);
        assert_eq!(violations("src", &[of_lines(160), of_lines(10), of_lines(400)]), [""; 0]);
    }

    #[test]
    fn a_long_file_is_found() {
        let found = violations("src", &[of_lines(401), of_lines(1), of_lines(1)]);
        assert_eq!(found, ["src/a.rs:401: a file has at most 400 lines; split it by concern"]);
    }

    #[test]
    fn a_tree_of_longish_files_is_found() {
        let found = violations("src", &[of_lines(161), of_lines(161), of_lines(1)]);
        assert_eq!(found, ["src: the median file, src/a.rs, has 161 lines; at most 160"]);
    }
}
