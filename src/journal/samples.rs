//! A thinned recording of what was measured. Losing it is a warning, never a reason to stop.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, IntoInnerError, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::at::At;
use crate::domain::gauge::Measured;

/// How dense a recording is by the age of its samples: up to this age, one sample in this time. What is older than all
/// of them keeps the last. A watch of four weeks holds some ten thousand samples.
const DENSITY: [(i64, i64); 4] =
    [(30 * MINUTE, 1_000), (6 * 60 * MINUTE, 10_000), (3 * 24 * 60 * MINUTE, MINUTE), (i64::MAX, 10 * MINUTE)];
const MINUTE: i64 = 60_000;
/// The file is thinned when it has grown by this much since it was thinned last.
const GROWN: u64 = 8 << 20;

/// One recorded moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The run's clock; `measured.at` is the wall clock.
    pub at: At,
    /// What was measured.
    pub measured: Measured,
}

/// What became of an offered sample.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Offered {
    /// Recorded.
    Kept,
    /// Too soon after the last one.
    Thinned,
    /// The disk refused; worth one warning.
    Lost(String),
}

/// Appends samples to `samples.jsonl`.
#[derive(Debug)]
pub struct SampleWriter {
    path: PathBuf,
    file: File,
    bytes: u64,
    /// Size at which old samples are thinned.
    thin_at: u64,
    last: Option<At>,
    lost: u64,
}

impl SampleWriter {
    /// Opens the recording, new or not. An unfinished last line is closed first, so that it cannot spoil the next.
    ///
    /// # Errors
    /// What the disk said; the run goes on without a recording.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let mut bytes = file.metadata()?.len();
        if bytes > 0 {
            file.seek(SeekFrom::Start(bytes - 1))?;
            let mut last = [0];
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                bytes += 1;
            }
        }
        Ok(Self { path: path.to_owned(), file, bytes, thin_at: GROWN, last: None, lost: 0 })
    }

    /// A recording on a file that is open.
    #[cfg(test)]
    pub(crate) fn on(file: File, path: &Path) -> Self {
        Self { path: path.to_owned(), file, bytes: 0, thin_at: GROWN, last: None, lost: 0 }
    }

    /// Records a sample taken at `now` on the run's clock, unless the last one is too recent on the wall clock.
    pub fn offer(&mut self, now: At, measured: &Measured) -> Offered {
        // A clock that was set back must not stop the recording.
        if self.last.is_some_and(|last| (0..DENSITY[0].1).contains(&measured.at.since(last))) {
            return Offered::Thinned;
        }
        self.last = Some(measured.at);
        match self.write(now, measured).and_then(|()| self.thin_if_grown(measured.at)) {
            Ok(()) => Offered::Kept,
            Err(e) => {
                self.lost += 1;
                Offered::Lost(e.to_string())
            }
        }
    }

    /// Samples the disk refused so far.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    fn write(&mut self, at: At, measured: &Measured) -> io::Result<()> {
        #[derive(Serialize)]
        struct Out<'a> {
            at: At,
            measured: &'a Measured,
        }
        let mut line = serde_json::to_vec(&Out { at, measured })?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn thin_if_grown(&mut self, now: At) -> io::Result<()> {
        if self.bytes < self.thin_at {
            return Ok(());
        }
        // Whatever the result, it is not tried again at each sample.
        self.thin_at = self.bytes + GROWN;
        self.thin(now)
    }

    /// Removes old samples that are closer together than their age needs. The file is replaced whole; a process that is
    /// reading it goes on reading the old one.
    fn thin(&mut self, now: At) -> io::Result<()> {
        let draft = self.path.with_extension("jsonl.new");
        let options = || {
            let mut options = OpenOptions::new();
            options.read(true).create(true).mode(0o600);
            options
        };
        let mut out = BufWriter::new(options().write(true).truncate(true).open(&draft)?);
        let mut lines = BufReader::new(File::open(&self.path)?);
        let (mut line, mut kept, mut bytes) = (Vec::new(), None::<At>, 0);
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            let Ok(Moment { measured: Measurement { at } }) = serde_json::from_slice(&line) else { continue };
            let age = now.since(at);
            let gap = DENSITY.iter().find(|(up_to, _)| age <= *up_to).map_or(0, |(_, gap)| *gap);
            // A clock that was wrong once must not cost what was recorded after it.
            if kept.is_none_or(|kept| !(0..gap).contains(&at.since(kept))) {
                kept = Some(at);
                out.write_all(&line)?;
                bytes += line.len() as u64;
            }
        }
        out.into_inner().map_err(IntoInnerError::into_error)?;
        std::fs::rename(&draft, &self.path)?;
        self.file = options().append(true).open(&self.path)?;
        self.bytes = bytes;
        self.thin_at = bytes + GROWN;
        Ok(())
    }
}

/// As much of a sample as its age needs.
#[derive(Deserialize)]
struct Moment {
    measured: Measurement,
}

#[derive(Deserialize)]
struct Measurement {
    at: At,
}

/// Reads a recording: times at once, samples when asked for.
#[derive(Debug)]
pub struct SampleReader {
    file: File,
    index: Vec<(At, u64, usize)>,
    skipped: usize,
}

impl SampleReader {
    /// Opens a recording. Lines that cannot be read are counted and passed over.
    ///
    /// # Errors
    /// What the disk said, a missing file included.
    pub fn open(path: &Path) -> io::Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            at: At,
        }
        let mut lines = BufReader::new(File::open(path)?);
        let (mut index, mut skipped, mut offset, mut line) = (Vec::new(), 0, 0_u64, Vec::new());
        loop {
            line.clear();
            let length = lines.read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            match serde_json::from_slice::<Head>(&line) {
                Ok(head) => index.push((head.at, offset, length)),
                Err(_) => skipped += 1,
            }
            offset += length as u64;
        }
        // The run's clock is never set back, but a resumed process may have had a wrong one.
        index.sort_by_key(|(at, ..)| *at);
        Ok(Self { file: lines.into_inner(), index, skipped })
    }

    /// Number of samples.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Lines that could not be read.
    #[must_use]
    pub const fn skipped(&self) -> usize {
        self.skipped
    }

    /// When a sample was taken, on the run's clock.
    #[must_use]
    pub fn at(&self, i: usize) -> Option<At> {
        self.index.get(i).map(|(at, ..)| *at)
    }

    /// The last sample taken at or before `at`.
    #[must_use]
    pub fn last_before(&self, at: At) -> Option<usize> {
        self.index.partition_point(|(then, ..)| *then <= at).checked_sub(1)
    }

    /// Reads a sample; `None` when it is not there or its line is damaged.
    pub fn get(&mut self, i: usize) -> Option<Sample> {
        let (_, offset, length) = *self.index.get(i)?;
        let mut line = vec![0; length];
        self.file.seek(SeekFrom::Start(offset)).ok()?;
        self.file.read_exact(&mut line).ok()?;
        serde_json::from_slice(&line).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gauge::TableGauge;

    fn measured(at: i64, loaded: u64) -> Measured {
        let gauge = TableGauge { loaded, ..TableGauge::default() };
        Measured { at: At(at), tables: [("books".to_owned(), gauge)].into(), ..Measured::default() }
    }

    #[test]
    fn one_a_second_is_kept_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("samples.jsonl");
        let mut writer = SampleWriter::open(&path).unwrap();
        let kept = (0..50).filter(|i| writer.offer(At(i * 1_000), &measured(i * 100, 7)) == Offered::Kept).count();
        assert_eq!(kept, 5);
        let mut reader = SampleReader::open(&path).unwrap();
        assert_eq!(reader.len(), 5);
        assert_eq!(reader.get(1).unwrap(), Sample { at: At(10_000), measured: measured(1_000, 7) });
        assert_eq!(reader.last_before(At(10_000)), Some(1));
        assert_eq!(reader.last_before(At(9_999)), Some(0));
        assert_eq!(reader.last_before(At(-1)), None);
        assert!(reader.get(5).is_none());
    }

    #[test]
    fn a_torn_line_costs_one_sample_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("samples.jsonl");
        let _ = SampleWriter::open(&path).unwrap().offer(At(1), &measured(1, 1));
        let file = OpenOptions::new().append(true).open(&path).unwrap();
        (&file).write_all(b"{\"at\":2,\"measu").unwrap();
        assert_eq!(SampleWriter::open(&path).unwrap().offer(At(3), &measured(3, 3)), Offered::Kept);
        let mut reader = SampleReader::open(&path).unwrap();
        assert_eq!((reader.len(), reader.skipped()), (2, 1));
        assert_eq!(reader.get(1).unwrap().at, At(3));
    }

    /// Four weeks at one sample a second, each as large as a real one of a few tables.
    #[test]
    fn a_watch_of_four_weeks_stays_small_and_keeps_its_newest_as_fine_as_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("samples.jsonl");
        let mut writer = SampleWriter::open(&path).unwrap();
        // Weeks go by in minutes, the last hour in seconds: what is thinned later is thinned the same.
        let (weeks, hour) = (4 * 7 * 24 * 60 * MINUTE, 60 * MINUTE);
        let coarse = (0..weeks - hour).step_by(15_000);
        let mut largest = 0;
        for at in coarse.chain((weeks - hour..=weeks).step_by(1_000)) {
            assert_eq!(writer.offer(At(at), &big(at)), Offered::Kept);
            largest = largest.max(writer.bytes);
        }
        assert!(largest < 64 << 20, "{largest} bytes at its largest");
        writer.thin(At(weeks)).unwrap();
        let mut reader = SampleReader::open(&path).unwrap();
        assert_eq!(reader.skipped(), 0);
        assert!(reader.len() < 12_000, "{} samples", reader.len());
        let times: Vec<i64> = (0..reader.len()).map(|i| reader.at(i).unwrap().0).collect();
        for (back, up_to, gap) in [(weeks, 3 * 24 * hour, 600_000), (3 * 24 * hour, 6 * hour, MINUTE)] {
            let of_it: Vec<i64> = times.iter().copied().filter(|t| (weeks - back..weeks - up_to).contains(t)).collect();
            assert!(of_it.windows(2).all(|w| (gap..2 * gap).contains(&(w[1] - w[0]))), "up to {up_to}");
        }
        assert!(times.ends_with(&[weeks - 2_000, weeks - 1_000, weeks]), "the newest are as fine as ever");
        assert_eq!(reader.get(reader.len() - 1).unwrap().measured.at, At(weeks));
        assert!(!path.with_extension("jsonl.new").exists());
    }

    fn big(at: i64) -> Measured {
        let table = |i: i64| (format!("table-{i}"), TableGauge { loaded: 7, ..TableGauge::default() });
        Measured { at: At(at), tables: (0..3).map(table).collect(), ..Measured::default() }
    }

    #[test]
    fn a_full_disk_is_a_warning() {
        let mut writer = SampleWriter::open(Path::new("/dev/full")).unwrap();
        assert!(matches!(writer.offer(At(1), &measured(1, 1)), Offered::Lost(why) if !why.is_empty()));
        assert_eq!(writer.lost(), 1);
    }
}
