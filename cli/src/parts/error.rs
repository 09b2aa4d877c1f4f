use std::path::PathBuf;

/// Why a part of the local stack could not be had. Each names the package and what to try by hand.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    #[error("{part} cannot be installed: {tool} is missing\n  try: {hint}")]
    ToolMissing { part: &'static str, tool: &'static str, hint: &'static str },
    #[error(
        "{part} cannot be installed: no package is known for {arch}\n  put it on PATH by hand, version {version}"
    )]
    NoPackage { part: &'static str, version: &'static str, arch: &'static str },
    #[error("{part} cannot be installed from package {package}: {detail}\n  try by hand: {command}")]
    Client { part: String, package: String, detail: String, command: String },
    #[error(
        "{part} is not what was pinned: {file} has sha256 {found}, expected {expected}\n  try by hand: {command}"
    )]
    Checksum { part: &'static str, file: String, found: String, expected: &'static str, command: String },
    #[error("{part}: the package {package} has no {member}")]
    Member { part: &'static str, package: String, member: String },
    #[error("{doing} {}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("unpack {file}")]
    Unpack {
        file: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

pub(crate) trait AtPath<T> {
    fn at(self, doing: &'static str, path: &std::path::Path) -> Result<T, PartError>;
}

impl<T> AtPath<T> for std::io::Result<T> {
    fn at(self, doing: &'static str, path: &std::path::Path) -> Result<T, PartError> {
        self.map_err(|source| PartError::Io { doing, path: path.to_owned(), source })
    }
}
