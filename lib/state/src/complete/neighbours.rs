//! What a set of completions meets: committed partitions of the same range, and borders that link or do not.

use std::collections::{BTreeMap, HashMap, HashSet};

use dagwright_core::{
    border::{Borders, Ends, Fork},
    ids::VersionId,
};
use sqlx::{PgConnection, postgres::types::PgRange};

use super::{Candidate, Target};
use crate::{Result, error::During, rows};

/// What may be committed, and what not.
pub(super) struct Judgement<'a> {
    pub(super) good: Vec<Candidate<'a>>,
    /// Another job was first.
    pub(super) superseded: Vec<Candidate<'a>>,
    /// A neighbour does not link.
    pub(super) forked: Vec<(Candidate<'a>, Vec<ForkOf>)>,
}

/// A fork in one version.
pub(super) struct ForkOf {
    pub(super) namespace: String,
    pub(super) version: VersionId,
    pub(super) fork: Fork,
}

/// Judges candidates, whose versions are locked, one after the other: one that is good is a neighbour to those behind it.
pub(super) async fn judge<'a>(
    conn: &mut PgConnection,
    candidates: Vec<Candidate<'a>>,
) -> Result<Judgement<'a>> {
    let around = around(conn, &candidates).await?;
    let mut borders: HashMap<(String, VersionId), Borders> = HashMap::new();
    for known in around.neighbours {
        let (start, end) = known.range;
        borders.entry(known.of).or_default().enter(start, end, &known.ends);
    }
    let mut judgement = Judgement { good: vec![], superseded: vec![], forked: vec![] };
    for (n, candidate) in candidates.into_iter().enumerate() {
        if around.covered.contains(&n) {
            judgement.superseded.push(candidate);
            continue;
        }
        let forks: Vec<_> = candidate.pairs.iter().flat_map(|(t, p)| forks(&borders, t, &p.ends)).collect();
        if !forks.is_empty() {
            judgement.forked.push((candidate, forks));
            continue;
        }
        for (target, partition) in &candidate.pairs {
            let borders = borders.entry(of(target)).or_default();
            borders.enter(target.range.start(), target.range.end(), &partition.ends);
        }
        judgement.good.push(candidate);
    }
    Ok(judgement)
}

fn of(target: &Target) -> (String, VersionId) {
    (target.namespace.clone(), target.version)
}

fn forks(borders: &HashMap<(String, VersionId), Borders>, target: &Target, ends: &Ends) -> Vec<ForkOf> {
    let Some(borders) = borders.get(&of(target)) else { return vec![] };
    let forks = borders.forks(target.range.start(), target.range.end(), ends);
    let (namespace, version) = (&target.namespace, target.version);
    forks.into_iter().map(|fork| ForkOf { namespace: namespace.clone(), version, fork }).collect()
}

/// What lies in and beside the candidates' ranges.
struct Around {
    /// Candidates whose range is committed already, at least in part.
    covered: HashSet<usize>,
    neighbours: Vec<Neighbour>,
}

struct Neighbour {
    of: (String, VersionId),
    range: (u64, u64),
    ends: Ends,
}

struct AroundRow {
    target: i32,
    overlaps: bool,
    range: PgRange<i64>,
    first_parent_hash: Vec<u8>,
    last_hash: Vec<u8>,
}

async fn around(conn: &mut PgConnection, candidates: &[Candidate<'_>]) -> Result<Around> {
    let targets: Vec<(usize, &Target)> = candidates
        .iter()
        .enumerate()
        .flat_map(|(n, c)| c.pairs.iter().map(move |(target, _)| (n, target)))
        .collect();
    let numbers: Vec<i32> = (0i32..).take(targets.len()).collect();
    let namespaces: Vec<_> = targets.iter().map(|(_, t)| t.namespace.clone()).collect();
    let versions: Vec<_> = targets.iter().map(|(_, t)| t.version.0).collect();
    let starts: Vec<_> = targets.iter().map(|(_, t)| rows::height_to_pg(t.range.start())).collect();
    let ends: Vec<_> = targets.iter().map(|(_, t)| rows::height_to_pg(t.range.end())).collect();
    let found = sqlx::query_as!(
        AroundRow,
        r#"SELECT u.n AS "target!", p.range && int8range(u.lower, u.upper) AS "overlaps!", p.range, p.first_parent_hash, p.last_hash
           FROM UNNEST($1::int[], $2::text[], $3::uuid[], $4::bigint[], $5::bigint[]) AS u (n, namespace, version, lower, upper)
           -- A neighbour shares the block beside the border. There are two at most, so that of three one overlaps: more need not
           -- be read to know that the range is taken. An index by namespace and version would read the whole version: hence the
           -- expression.
           CROSS JOIN LATERAL (
               SELECT p.range, p.first_parent_hash, p.last_hash FROM partition_versions p
               WHERE p.namespace || '' = u.namespace AND p.version = u.version AND p.current
                 AND range_box(p.namespace, p.version, p.range)
                     && range_box(u.namespace, u.version, int8range(GREATEST(u.lower - 1, 0), u.upper + 1)) LIMIT 3) p"#,
        &numbers,
        &namespaces,
        &versions,
        &starts,
        &ends
    )
    .fetch_all(conn)
    .await
    .during("read the neighbours of ranges")?;
    let mut around = Around { covered: HashSet::new(), neighbours: Vec::with_capacity(found.len()) };
    for row in found {
        let Some((n, target)) = usize::try_from(row.target).ok().and_then(|at| targets.get(at)) else {
            continue;
        };
        if row.overlaps {
            around.covered.insert(*n);
            continue;
        }
        let range = rows::from_pg("partition_versions", target.version, &row.range)?;
        around.neighbours.push(Neighbour {
            of: of(target),
            range: (range.start(), range.end()),
            ends: Ends { first_parent_hash: row.first_parent_hash, last_hash: row.last_hash },
        });
    }
    Ok(around)
}

/// Shows forks until they are resolved.
pub(super) async fn record_forks(
    conn: &mut PgConnection,
    forked: &[(Candidate<'_>, Vec<ForkOf>)],
) -> Result<()> {
    // Two completions may fork at one height; a statement takes it once.
    let forks: BTreeMap<_, _> = forked
        .iter()
        .flat_map(|(c, forks)| forks.iter().map(|f| (&c.row.task_id, f)))
        .map(|(task, f)| ((f.namespace.clone(), f.version, f.fork.height), (f, task.0)))
        .collect();
    if forks.is_empty() {
        return Ok(());
    }
    let forks: Vec<_> = forks.into_values().collect();
    let namespaces: Vec<_> = forks.iter().map(|(f, _)| f.namespace.clone()).collect();
    let versions: Vec<_> = forks.iter().map(|(f, _)| f.version.0).collect();
    let heights: Vec<_> = forks.iter().map(|(f, _)| rows::height_to_pg(f.fork.height)).collect();
    let below: Vec<_> = forks.iter().map(|(f, _)| f.fork.below_hash.clone()).collect();
    let above: Vec<_> = forks.iter().map(|(f, _)| f.fork.above_parent_hash.clone()).collect();
    let tasks: Vec<_> = forks.iter().map(|(_, task)| *task).collect();
    sqlx::query!(
        "INSERT INTO border_conflicts (namespace, version, height, below_hash, above_parent_hash, task_id)
         SELECT * FROM UNNEST($1::text[], $2::uuid[], $3::bigint[], $4::bytea[], $5::bytea[], $6::uuid[])
         ON CONFLICT (namespace, version, height) DO UPDATE
         SET below_hash = EXCLUDED.below_hash, above_parent_hash = EXCLUDED.above_parent_hash, task_id = EXCLUDED.task_id",
        &namespaces,
        &versions,
        &heights,
        &below,
        &above,
        &tasks
    )
    .execute(conn)
    .await
    .during("record forks at borders")?;
    Ok(())
}

/// What commits links with its neighbours: forks that were seen at its ends are over.
pub(super) async fn resolve_forks(conn: &mut PgConnection, good: &[Candidate<'_>]) -> Result<()> {
    let ends = good.iter().flat_map(|c| &c.pairs).flat_map(|(target, _)| {
        [target.range.start(), target.range.end()].map(|height| (target, rows::height_to_pg(height)))
    });
    let (targets, heights): (Vec<&Target>, Vec<i64>) = ends.unzip();
    if targets.is_empty() {
        return Ok(());
    }
    let namespaces: Vec<_> = targets.iter().map(|t| t.namespace.clone()).collect();
    let versions: Vec<_> = targets.iter().map(|t| t.version.0).collect();
    sqlx::query!(
        "DELETE FROM border_conflicts b USING UNNEST($1::text[], $2::uuid[], $3::bigint[]) AS u (namespace, version, height)
         WHERE b.namespace = u.namespace AND b.version = u.version AND b.height = u.height",
        &namespaces,
        &versions,
        &heights
    )
    .execute(conn)
    .await
    .during("resolve forks at borders")?;
    Ok(())
}
