//! Running the package clients.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use super::error::PartError;
use super::progress::Line;

/// Runs a client to its end, showing its newest line of output as progress.
pub(crate) fn run(part: &str, package: &str, mut command: Command, line: &Line) -> Result<String, PartError> {
    let shown = shown(&command);
    let failed = |detail: String| PartError::Client {
        part: part.to_owned(),
        package: package.to_owned(),
        detail,
        command: shown.clone(),
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let stderr = child.stderr.take().expect("stderr is piped");
    let mut stdout = child.stdout.take().expect("stdout is piped");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        let _ = stdout.read_to_string(&mut text);
        text
    });
    let mut said = Vec::new();
    for text in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if !text.is_empty() {
            line.detail(&text);
            said.push(text);
        }
    }
    let status = child.wait().map_err(|error| failed(error.to_string()))?;
    let output = reader.join().unwrap_or_default();
    if status.success() {
        return Ok(output);
    }
    Err(failed(reason(&said).unwrap_or_else(|| status.to_string())))
}

/// The line of a client's complaint that says why: the last one that calls itself an error, else the last one.
fn reason(said: &[String]) -> Option<String> {
    let is_error = |text: &&String| {
        let lower = text.to_lowercase();
        lower.starts_with("error") || lower.starts_with("npm error 4") || lower.contains("error:")
    };
    said.iter().rfind(is_error).or_else(|| said.last()).cloned()
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
