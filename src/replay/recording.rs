//! What is played: facts, measurements and the plan of one run.

use crate::domain::at::At;
use crate::domain::run::Fact;
use crate::journal::{RunFolder, SampleReader, fold, read_run};
use crate::report::{OfflineError, Plans};

/// Why a run cannot be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The folder cannot be read.
    #[error(transparent)]
    Folder(#[from] OfflineError),
    /// Nothing was recorded.
    #[error("run {run} holds no facts; there is nothing to play")]
    Empty {
        /// The run.
        run: String,
    },
}

/// A run read into memory; samples stay on disk until they are needed.
#[derive(Debug)]
pub struct Recording {
    /// Each plan the run has gone by.
    pub(super) plans: Plans,
    pub(super) operator: String,
    pub(super) facts: Vec<Fact>,
    /// When each fact is played: its `at`, but never before the one in front of it.
    pub(super) times: Vec<At>,
    /// Absent when none were recorded; then every number is `?`.
    pub(super) samples: Option<SampleReader>,
}

impl Recording {
    /// Reads a run's folder and makes sure that it plays to its end.
    ///
    /// # Errors
    /// A journal that cannot be trusted, holds nothing, or whose plan is missing or another one.
    pub fn load(folder: &RunFolder) -> Result<Self, ReplayError> {
        let record = read_run(folder).map_err(OfflineError::from)?;
        fold(&record.facts).map_err(OfflineError::from)?;
        if record.facts.is_empty() {
            return Err(ReplayError::Empty { run: folder.id().to_owned() });
        }
        let plans = Plans::read(folder, &record)?;
        let samples = SampleReader::open(&folder.samples()).ok().filter(|s| !s.is_empty());
        let mut latest = At(i64::MIN);
        let times = record
            .facts
            .iter()
            .map(|f| {
                latest = latest.max(f.at);
                latest
            })
            .collect();
        Ok(Self { plans, operator: record.header.operator, facts: record.facts, times, samples })
    }

    /// When the first fact was recorded.
    #[must_use]
    pub fn start(&self) -> At {
        self.times.first().copied().unwrap_or_default()
    }

    /// When the last fact was recorded.
    #[must_use]
    pub fn end(&self) -> At {
        self.times.last().copied().unwrap_or_default()
    }
}
