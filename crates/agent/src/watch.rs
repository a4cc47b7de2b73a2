//! `skiff-agent watch`: looks at the node again and again, mends what others undid, tells the cluster, compiles images
//! ahead and keeps the cache within its limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use skiff_node::doctor;
use skiff_node::installer::{Condition, InstallError, Watched};

use crate::arguments::{Common, Watch};
use crate::condition;
use crate::images;
use crate::log;
use crate::metrics::Cache;
use crate::node_object::{State, Wanted};
use crate::programs;
use crate::report::{Happened, Reporter};
use crate::serve::{self, Figures, Shared};

/// Where somebody else is at work on the node, by hand, or the API server does not listen.
const SHORT_PAUSE: Duration = Duration::from_secs(2);
/// Between two counts of the cache.
const CACHE_PAUSE: Duration = Duration::from_secs(60);
/// So many looks in a row may fail, for a containerd that is being restarted, before the node counts as broken.
const PATIENT_LOOKS: u32 = 3;

pub(crate) async fn run(common: &Common, watch: &Watch) -> anyhow::Result<()> {
    let shared = Arc::new(Shared::default());
    let figures = Figures {
        root: common.root.clone(),
        asked: common.asked(),
    };
    let guard = Guard {
        common,
        reporter: Reporter::new(&common.node)?,
        shared: &shared,
        repair: !watch.no_repair,
        watched: Watched::default(),
        repairs: Repairs::default(),
        last: None,
        failures: 0,
        told: String::new(),
    };
    let ahead = async {
        if watch.no_precompile {
            std::future::pending().await
        } else {
            images::run(common, &shared).await
        }
    };
    tokio::select! {
        ended = serve::run(watch.listen, Arc::clone(&shared), Some(figures)) => ended,
        ended = guard.stand(Duration::from_secs(watch.interval.max(1))) => ended,
        ended = ahead => ended,
        ended = keep_cache(common, watch, &shared) => ended,
    }
}

/// Who stands over the installation.
struct Guard<'a> {
    common: &'a Common,
    reporter: Reporter,
    shared: &'a Shared,
    repair: bool,
    watched: Watched,
    repairs: Repairs,
    /// What the node object was last told.
    last: Option<Wanted>,
    /// Looks in a row that failed.
    failures: u32,
    /// What was last complained of.
    told: String,
}

impl Guard<'_> {
    async fn stand(mut self, interval: Duration) -> anyhow::Result<()> {
        loop {
            let pause = match self.look().await? {
                Looked::Again => SHORT_PAUSE,
                Looked::Done => interval,
            };
            self.shared.looked();
            tokio::time::sleep(pause).await;
        }
    }

    async fn look(&mut self) -> anyhow::Result<Looked> {
        let mut looked = condition::look(self.common, &mut self.watched).await?;
        if matches!(looked, Err(InstallError::Busy)) {
            return Ok(Looked::Again);
        }
        if let Ok(condition) = &looked
            && !condition.problems.is_empty()
        {
            let problem = condition.problems.join("; ");
            self.complain(&problem).await;
            if self.repair && self.repairs.may(Instant::now()) {
                self.mend().await?;
                looked = condition::look(self.common, &mut self.watched).await?;
            }
        }
        if self.tell(looked).await {
            Ok(Looked::Done)
        } else {
            Ok(Looked::Again)
        }
    }

    /// Says a sentence once, however often it is found.
    async fn complain(&mut self, problem: &str) {
        if self.told != problem {
            log::warning(problem);
            self.reporter.event(Happened::Drifted, problem).await;
            problem.clone_into(&mut self.told);
        }
    }

    async fn mend(&mut self) -> anyhow::Result<()> {
        match condition::install(self.common).await? {
            Ok(_) => {
                let sentence = format!("mended: {}", self.told);
                self.reporter.event(Happened::Repaired, &sentence).await;
                self.shared.update(|metrics| metrics.repaired += 1);
            }
            Err(error) => {
                let reason = doctor::sentence(&error);
                let again = self.repairs.pause().as_secs();
                log::warning(&format!(
                    "could not mend it, the next try is in {again} s: {reason}"
                ));
                self.shared.update(|metrics| metrics.not_repaired += 1);
            }
        }
        Ok(())
    }

    /// Answers whether the API server has heard it.
    async fn tell(&mut self, looked: Result<Condition, InstallError>) -> bool {
        let (state, wanted, version) = match looked {
            Ok(condition) => {
                self.failures = 0;
                let (state, wanted) = condition::wanted(&condition);
                if state == State::Ready {
                    self.told.clear();
                }
                self.shared
                    .update(|metrics| metrics.proven.clone_from(&condition.proven));
                (state, wanted, condition.version)
            }
            Err(error) => {
                self.failures += 1;
                let reason = doctor::sentence(&error);
                self.complain(&reason).await;
                let kept = self.last.take().filter(|_| self.failures < PATIENT_LOOKS);
                let handlers = kept.map(|kept| kept.handlers).unwrap_or_default();
                let state = if handlers.is_empty() {
                    State::Failed
                } else {
                    State::Degraded
                };
                self.shared
                    .update(|metrics| metrics.proven.clone_from(&handlers));
                let wanted = Wanted::of(state, &handlers, None, Some(&reason));
                (state, wanted, None)
            }
        };
        let published = self.reporter.publish(&wanted).await;
        if let Err(error) = &published {
            log::warning(&doctor::sentence(error));
        }
        if published.is_ok() && self.last.as_ref() != Some(&wanted) && state == State::Ready {
            log::info(&format!(
                "the node is ready: {}",
                wanted.handlers.join(", ")
            ));
        }
        self.last = Some(wanted);
        self.shared.update(|metrics| {
            metrics.ready = state == State::Ready && published.is_ok();
            metrics.version = version.unwrap_or_default();
        });
        published.is_ok()
    }
}

enum Looked {
    Done,
    /// Something kept it from being done.
    Again,
}

/// When a repair may be tried: who undoes our work again and again is not fought over every half minute, since each
/// repair may restart containerd.
#[derive(Debug, Default)]
struct Repairs {
    tried: Vec<Instant>,
}

impl Repairs {
    const REMEMBERED: Duration = Duration::from_secs(24 * 3600);

    fn pause(&self) -> Duration {
        let tries = u32::try_from(self.tried.len()).unwrap_or(u32::MAX);
        match tries {
            0 => Duration::ZERO,
            // A minute, two, four … an hour.
            tries => Duration::from_secs(60 << (tries - 1).min(6)).min(Duration::from_secs(3600)),
        }
    }

    fn may(&mut self, now: Instant) -> bool {
        self.tried
            .retain(|at| now.duration_since(*at) < Self::REMEMBERED);
        let due = self
            .tried
            .last()
            .is_none_or(|last| now.duration_since(*last) >= self.pause());
        if due {
            self.tried.push(now);
        }
        due
    }
}

/// Keeps compiled code within the operator's limits, and counts it.
async fn keep_cache(common: &Common, watch: &Watch, shared: &Shared) -> anyhow::Result<()> {
    let mut told = String::new();
    loop {
        if let Err(error) = count_cache(common, watch, shared).await {
            let sentence = format!("{error:#}");
            if sentence != told {
                log::warning(&sentence);
                told = sentence;
            }
        }
        tokio::time::sleep(CACHE_PAUSE).await;
    }
}

async fn count_cache(common: &Common, watch: &Watch, shared: &Shared) -> anyhow::Result<()> {
    let mut prune = ["cache", "prune"].map(str::to_owned).to_vec();
    let limits = [
        ("--keep", &watch.cache_size),
        ("--unused-for", &watch.cache_unused),
    ];
    for (option, value) in limits {
        if let Some(value) = value {
            prune.extend([option.to_owned(), value.clone()]);
        }
    }
    if prune.len() > 2 {
        let pruned = programs::skiff(common, prune).await?;
        let removed = pruned["removed"].as_array().map_or(0, Vec::len) as u64;
        shared.update(|metrics| metrics.evicted += removed);
    }
    let words = ["cache", "ls"].map(str::to_owned).to_vec();
    let listed = programs::skiff(common, words).await?;
    shared.update(|metrics| metrics.cache = Some(cache(&listed)));
    Ok(())
}

fn cache(listed: &Value) -> Cache {
    let entries = listed["entries"].as_array();
    let count = |wanted: &dyn Fn(&Value) -> bool| {
        let entries = entries.into_iter().flatten();
        entries.filter(|entry| wanted(entry)).count() as u64
    };
    Cache {
        entries: count(&|_| true),
        in_use: count(&|entry| entry["in_use"] == true),
        bytes: listed["bytes"].as_u64().unwrap_or(0),
        limit: listed["limit_bytes"].as_u64().unwrap_or(0),
        quarantined: listed["quarantined"].as_array().map_or(0, Vec::len) as u64,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn repairs_become_rarer() {
        let begun = Instant::now();
        let mut repairs = Repairs::default();
        let mut times = Vec::new();
        for second in (0..48 * 3600).step_by(10) {
            if repairs.may(begun + Duration::from_secs(second)) {
                times.push(second);
            }
        }
        assert_eq!(times[..5], [0, 60, 180, 420, 900]);
        let gaps = times[7..].windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.min() == Some(3600), "{times:?}");
    }

    #[test]
    fn the_cache_is_counted() {
        let listed = json!({
            "bytes": 30,
            "limit_bytes": 100,
            "entries": [{ "in_use": true }, { "in_use": false }],
            "quarantined": ["x"],
        });
        let expected = Cache {
            entries: 2,
            in_use: 1,
            bytes: 30,
            limit: 100,
            quarantined: 1,
        };
        assert_eq!(cache(&listed), expected);
    }
}
