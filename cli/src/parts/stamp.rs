//! A stamp beside an installed part says from which pin it came and what was written, so that a second start
//! verifies it without reading a gigabyte.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{AtPath, PartError};

const NAME: &str = ".installed.json";

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    pin: String,
    files: Vec<(String, u64)>,
}

/// Whether the folder holds the files that this pin produced, at the size that they had.
pub(crate) fn is_current(folder: &Path, pin: &str) -> bool {
    let Ok(text) = fs::read(folder.join(NAME)) else { return false };
    let Ok(stamp) = serde_json::from_slice::<Stamp>(&text) else { return false };
    let intact =
        |(file, size): &(String, u64)| fs::metadata(folder.join(file)).is_ok_and(|m| m.len() == *size);
    stamp.pin == pin && !stamp.files.is_empty() && stamp.files.iter().all(intact)
}

/// Written last, so that an installation that was cut short is done again.
pub(crate) fn write(folder: &Path, pin: &str, files: &[&str]) -> Result<(), PartError> {
    let mut sizes = Vec::new();
    for file in files {
        let path = folder.join(file);
        sizes.push(((*file).to_owned(), fs::metadata(&path).at("look at", &path)?.len()));
    }
    let stamp = Stamp { pin: pin.to_owned(), files: sizes };
    let path = folder.join(NAME);
    fs::write(&path, serde_json::to_vec(&stamp).expect("strings and numbers serialise")).at("write", &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_pin_or_a_changed_file_is_not_current() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("part"), "four").unwrap();
        assert!(!is_current(dir.path(), "a"));
        write(dir.path(), "a", &["part"]).unwrap();
        assert!(is_current(dir.path(), "a"));
        assert!(!is_current(dir.path(), "b"));
        fs::write(dir.path().join("part"), "cut").unwrap();
        assert!(!is_current(dir.path(), "a"));
    }
}
