//! The image table: which references name which program.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::ImageCommand;

/// References to programs. There is no registry behind it: a reference that is not in the table does not exist.
#[derive(Debug)]
pub(super) struct Images {
    by_reference: BTreeMap<String, ImageCommand>,
}

impl Images {
    pub(super) fn new(by_reference: BTreeMap<String, ImageCommand>) -> Self {
        Self { by_reference }
    }

    pub(super) fn find(&self, reference: &str) -> Option<&ImageCommand> {
        self.resolve(reference).map(|(_, command)| command)
    }

    /// Stands for the manifest digest: equal references are equal images as long as the engine runs.
    pub(super) fn digest(&self, reference: &str) -> Option<String> {
        self.resolve(reference).map(|(known, _)| digest(known))
    }

    /// Finds by digest, else by the exact reference, else by the bare repository when the table has one tag of it. ECS services
    /// resolve a tag to a digest once and then create `repository@digest`, without the tag.
    fn resolve(&self, reference: &str) -> Option<(&str, &ImageCommand)> {
        let known = || self.by_reference.iter().map(|(known, command)| (known.as_str(), command));
        if let Some((_, wanted)) = reference.split_once('@') {
            return known().find(|(known, _)| digest(known) == wanted);
        }
        if let Some(found) = known().find(|(known, _)| *known == reference) {
            return Some(found);
        }
        let mut tags = known().filter(|(known, _)| repository(known) == reference);
        tags.next().filter(|_| tags.next().is_none())
    }
}

fn digest(reference: &str) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(reference.as_bytes())))
}

fn repository(reference: &str) -> &str {
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => repository,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn images(references: &[&str]) -> Images {
        let command =
            |name: &str| ImageCommand { program: name.into(), args: Vec::new(), env: BTreeMap::new() };
        Images::new(references.iter().map(|name| ((*name).to_owned(), command(name))).collect())
    }

    #[test]
    fn found_by_reference_digest_and_lone_repository() {
        let images = images(&["dagwright/worker:local", "other:1", "other:2"]);
        let program =
            |reference: &str| images.find(reference).map(|image| image.program.display().to_string());
        assert_eq!(program("dagwright/worker:local").as_deref(), Some("dagwright/worker:local"));
        assert_eq!(program("dagwright/worker").as_deref(), Some("dagwright/worker:local"));
        let pinned = format!("other@{}", digest("other:2"));
        assert_eq!(program(&pinned).as_deref(), Some("other:2"));
        assert_eq!(program("other"), None);
        assert_eq!(program("dagwright/worker:v2"), None);
        assert_eq!(program("other@sha256:00"), None);
        assert_eq!(program("localhost:5000/worker"), None);
    }
}
