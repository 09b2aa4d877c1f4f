//! Progress of the parts: one moving line each on a terminal, one line per event in a log.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// All lines of one run.
#[derive(Clone, Debug)]
pub struct Progress {
    bars: Option<MultiProgress>,
}

/// The line of one part.
#[derive(Debug)]
pub struct Line {
    name: String,
    bar: Option<ProgressBar>,
    started: Instant,
}

impl Progress {
    /// Moving lines when standard error is a terminal.
    pub fn to_stderr() -> Self {
        Self { bars: std::io::stderr().is_terminal().then(MultiProgress::new) }
    }

    /// Begins the line of a part.
    pub fn line(&self, name: &str, doing: &str) -> Line {
        let bar = self.bars.as_ref().map(|bars| {
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(
                ProgressStyle::with_template("{spinner} {prefix:22} {elapsed:>4} {wide_msg}")
                    .expect("the template is a constant that parses"),
            );
            bar.set_prefix(name.to_owned());
            bar.set_message(doing.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        if bar.is_none() {
            eprintln!("{name}: {doing}");
        }
        Line { name: name.to_owned(), bar, started: Instant::now() }
    }
}

impl Line {
    /// A milestone: shown in logs too.
    pub fn step(&self, doing: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(doing.to_owned()),
            None => eprintln!("{}: {doing}", self.name),
        }
    }

    /// A detail that changes too often for a log.
    pub fn detail(&self, doing: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(doing.to_owned());
        }
    }

    /// Ends the line.
    pub fn done(self, result: &str) {
        let seconds = self.started.elapsed().as_secs_f32();
        match &self.bar {
            Some(bar) => bar.finish_with_message(format!("{result} ({seconds:.1} s)")),
            None => eprintln!("{}: {result} ({seconds:.1} s)", self.name),
        }
    }

    /// Ends the line of something that failed; the error itself is reported by the caller.
    pub fn failed(self) {
        match &self.bar {
            Some(bar) => bar.abandon_with_message("failed"),
            None => eprintln!("{}: failed", self.name),
        }
    }
}
