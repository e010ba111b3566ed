//! The rules of the house, checked against the sources themselves: where imports may point, where a
//! library may be named, how long a file may be.
//!
//! Each rule is a pure function from files to violations, with tests beside it that break it.

mod budget;
mod imports;
mod names;
mod source;

use std::{fs, path::Path};

/// Path below the repository's root, with `/`, and text.
type File = (String, String);

/// `src/config.rs:12: what is wrong`.
type Violation = String;

#[test]
fn imports_point_downward() {
    assert_none(&imports::violations(&rust_files("src")));
}

#[test]
fn libraries_are_named_only_in_their_homes() {
    assert_none(&names::violations(&rust_files("src")));
}

#[test]
fn files_keep_their_budget() {
    for tree in ["src", "entity/src", "migration/src", "sandbox/src", "bench/src"] {
        assert_none(&budget::violations(tree, &rust_files(tree)));
    }
}

fn assert_none(violations: &[Violation]) {
    assert!(violations.is_empty(), "{} found:\n{}", violations.len(), violations.join("\n"));
}

/// All `.rs` files of a folder below the repository's root.
fn rust_files(tree: &str) -> Vec<File> {
    let mut files = Vec::new();
    collect(Path::new(env!("CARGO_MANIFEST_DIR")), tree, &mut files);
    files.sort();
    files
}

fn collect(root: &Path, folder: &str, files: &mut Vec<File>) {
    for entry in fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder}: {error}")) {
        let entry = entry.expect("a directory entry");
        let path = format!("{folder}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().expect("a file type").is_dir() {
            collect(root, &path, files);
        } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(entry.path()).unwrap_or_else(|error| panic!("{path}: {error}"));
            files.push((path, text));
        }
    }
}

/// The first-level module of `src` a file belongs to: `src/api/me.rs` → `api`; `main` for the two roots.
fn module_of(path: &str) -> &str {
    let inner = path.strip_prefix("src/").unwrap_or(path);
    match inner.split_once('/').map_or_else(|| inner.trim_end_matches(".rs"), |(folder, _)| folder) {
        "lib" | "main" => "main",
        module => module,
    }
}

/// A made-up file for the tests of the rules.
fn file(path: &str, text: &str) -> File {
    (path.to_owned(), text.to_owned())
}
