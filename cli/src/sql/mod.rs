//! `dagwright sql`: a SELECT over the committed datasets, in a terminal or a pipe.

mod table;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use dagwright_contracts::problem::Problem;
use dagwright_contracts::query::{Format, JsonResult, QueryRequest};
use futures::StreamExt;
use reqwest::header::HeaderMap;

use crate::paths;
use crate::stack::Settings;
use crate::stack::commands::{StackArgs, variables};

/// Run a SELECT over the committed datasets.
#[derive(Args, Clone, Debug)]
pub struct SqlArgs {
    /// One SELECT over namespace.dataset, such as "select count(*) from demo.local_blocks". `-` reads it from standard input.
    pub sql: String,
    /// Shape of the answer. `json` is the service's answer with its column types, `arrow` an IPC stream for a file or a pipe.
    #[arg(long, value_enum, default_value_t = Shape::Table)]
    pub format: Shape,
    /// Value of the next parameter ($1, $2, …) as JSON; a word that is no JSON is taken as text. May be repeated.
    #[arg(long = "param", value_name = "VALUE")]
    pub params: Vec<String>,
    /// Rows at most; the service has a cap of its own.
    #[arg(long, value_name = "ROWS")]
    pub max_rows: Option<u64>,
    /// Seconds at most; the service has a cap of its own.
    #[arg(long, value_name = "SECONDS")]
    pub timeout: Option<u64>,
    /// Base URL of the query service; without it the local stack's is asked, with a token of its own.
    #[arg(long = "query-url", env = "DAGWRIGHT_QUERY_URL", value_name = "URL")]
    pub query_url: Option<String>,
    /// Bearer token: says which namespaces and roles the query may read.
    #[arg(long, env = "DAGWRIGHT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    #[command(flatten)]
    pub stack: StackArgs,
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shape {
    /// For people.
    Table,
    /// Columns with types, and rows.
    Json,
    /// With a header line.
    Csv,
    /// Arrow IPC stream.
    Arrow,
}

impl SqlArgs {
    /// A query whose answer is shown as a table.
    #[must_use]
    pub fn table(sql: &str, query_url: &str, token: &str) -> Self {
        Self {
            sql: sql.to_owned(),
            format: Shape::Table,
            params: Vec::new(),
            max_rows: None,
            timeout: None,
            query_url: Some(query_url.to_owned()),
            token: Some(token.to_owned()),
            stack: StackArgs { stack: paths::DEFAULT_STACK.to_owned(), data_dir: None },
        }
    }

    fn request(&self) -> anyhow::Result<QueryRequest> {
        Ok(QueryRequest {
            sql: statement(&self.sql)?,
            params: self.params.iter().map(|text| parameter(text)).collect(),
            format: match self.format {
                Shape::Table | Shape::Json => Format::Json,
                Shape::Csv => Format::Csv,
                Shape::Arrow => Format::Arrow,
            },
            max_rows: self.max_rows,
            timeout_seconds: self.timeout,
        })
    }
}

/// Asks and prints. A refusal of the service is an error that carries its words.
pub async fn run(args: SqlArgs) -> anyhow::Result<ExitCode> {
    if args.format == Shape::Arrow && std::io::stdout().is_terminal() {
        bail!("an Arrow stream is no text: write it to a file or a pipe (> answer.arrow)");
    }
    let (url, token) = service(&args)?;
    let answer = ask(&url, token.as_deref(), &args.request()?).await?;
    let printed = match args.format {
        Shape::Table => print_table(answer).await,
        Shape::Json | Shape::Csv | Shape::Arrow => copy(answer).await,
    };
    match printed {
        Err(error) if is_closed_pipe(&error) => Ok(ExitCode::SUCCESS),
        other => other.map(|()| ExitCode::SUCCESS),
    }
}

/// Where to ask, and as whom.
fn service(args: &SqlArgs) -> anyhow::Result<(String, Option<String>)> {
    if let Some(url) = &args.query_url {
        return Ok((url.clone(), args.token.clone()));
    }
    let local = || -> anyhow::Result<_> {
        let settings = Settings::load(&args.stack.dir()?)?;
        let variables: BTreeMap<_, _> = variables(&settings)?.into_iter().collect();
        let token = args.token.clone().or_else(|| variables.get("DAGWRIGHT_TOKEN").cloned());
        Ok((settings.url("query"), token))
    };
    local().context("no query service is named: start one by `dagwright up`, or set DAGWRIGHT_QUERY_URL and DAGWRIGHT_TOKEN")
}

/// The service ends a query by itself; this is for one that does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

async fn ask(url: &str, token: Option<&str>, query: &QueryRequest) -> anyhow::Result<reqwest::Response> {
    let http = reqwest::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .build()
        .context("build an HTTP client")?;
    let endpoint = format!("{}/v1/query", url.trim_end_matches('/'));
    let mut request = http.post(&endpoint).json(query);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let answer = request.send().await.with_context(|| format!("ask the query service at {url}"))?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap_or_default();
    bail!("{}", refusal(status, &text))
}

/// The service's own words, when it has some.
fn refusal(status: u16, body: &str) -> String {
    match serde_json::from_str::<Problem>(body) {
        Ok(problem) if problem.detail.is_empty() => format!("{} ({})", problem.title, problem.code),
        Ok(problem) => format!("{} ({}): {}", problem.title, problem.code, problem.detail),
        Err(_) => {
            format!("the query service answered {status}: {}", body.chars().take(500).collect::<String>())
        }
    }
}

async fn print_table(answer: reqwest::Response) -> anyhow::Result<()> {
    let result: JsonResult = answer.json().await.context("read the answer")?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", table::render(&result))?;
    writeln!(out, "{}", table::footer(&result))?;
    Ok(())
}

async fn copy(answer: reqwest::Response) -> anyhow::Result<()> {
    let cut = was_cut(answer.headers());
    let mut stream = answer.bytes_stream();
    let mut out = std::io::stdout();
    while let Some(chunk) = stream.next().await {
        out.write_all(&chunk.context("the answer broke off: what was printed is not all")?)?;
    }
    out.flush()?;
    if cut {
        eprintln!("the answer was cut: ask for less or raise --max-rows");
    }
    Ok(())
}

fn was_cut(headers: &HeaderMap) -> bool {
    headers.get("dagwright-truncated").is_some_and(|value| value == "true")
}

/// `head` and friends close the pipe when they have enough.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

fn statement(sql: &str) -> anyhow::Result<String> {
    if sql != "-" {
        return Ok(sql.to_owned());
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("read the statement from standard input")?;
    Ok(text)
}

fn parameter(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use serde_json::json;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: SqlArgs,
    }

    fn parse(line: &[&str]) -> QueryRequest {
        let line = std::iter::once("sql").chain(line.iter().copied());
        Line::try_parse_from(line).unwrap().args.request().unwrap()
    }

    #[test]
    fn arguments_become_a_request() {
        let line = [
            "select $1, $2",
            "--param",
            "7",
            "--param",
            "0xab",
            "--format",
            "csv",
            "--max-rows",
            "5",
            "--timeout",
            "9",
        ];
        let expected = QueryRequest {
            sql: "select $1, $2".into(),
            params: vec![json!(7), json!("0xab")],
            format: Format::Csv,
            max_rows: Some(5),
            timeout_seconds: Some(9),
        };
        assert_eq!(parse(&line), expected);
        assert_eq!(parse(&["select 1"]).format, Format::Json);
    }

    #[test]
    fn a_refusal_is_told_in_the_services_words() {
        let problem = Problem::new(400, "SqlRefused", "this statement is not allowed", "COPY is no SELECT");
        let text = refusal(400, &serde_json::to_string(&problem).unwrap());
        assert_eq!(text, "this statement is not allowed (SqlRefused): COPY is no SELECT");
        assert_eq!(refusal(502, "bad gateway"), "the query service answered 502: bad gateway");
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_named() {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let url = format!("http://127.0.0.1:{port}");
        let error = run(SqlArgs::table("select 1", &url, "token")).await.unwrap_err();
        assert!(format!("{error:#}").starts_with(&format!("ask the query service at {url}: ")), "{error:#}");
        let nowhere =
            StackArgs { stack: "none".into(), data_dir: Some(std::env::temp_dir().join("dw-no-stack")) };
        let args = SqlArgs { query_url: None, stack: nowhere, ..SqlArgs::table("select 1", "", "") };
        assert!(run(args).await.unwrap_err().to_string().contains("dagwright up"));
    }
}
