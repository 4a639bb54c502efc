//! The spool as files, without tasks: append, read in order, note what is done, remove what is all done.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use bytes::Bytes;

use super::{
    Ticket,
    record::Head,
    segment::{Reader, Segment},
};
use crate::batch::{Batch, Moment};

/// Bytes at which a new segment is begun, unless the spool is small.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Batches in files.
#[derive(Debug)]
pub(super) struct Store {
    folder: PathBuf,
    max_bytes: u64,
    segment_bytes: u64,
    segments: BTreeMap<u64, Segment>,
    /// The segment that takes new records, and its file.
    writing: Option<(u64, File)>,
    reading: Option<Reader>,
    next_number: u64,
    /// Lines written since the last fsync.
    unsynced_lines: u64,
    /// Holds the lock on the folder.
    _lock: File,
}

/// What an earlier process has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Recovered {
    pub(super) batches: u64,
    pub(super) lines: u64,
    pub(super) skipped_bytes: u64,
}

/// What there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Depth {
    pub(super) bytes: u64,
    pub(super) segments: u64,
    pub(super) unread_batches: u64,
    pub(super) unread_lines: u64,
    pub(super) oldest: Option<Moment>,
}

/// A record that was read.
#[derive(Debug)]
pub(super) enum Next {
    /// An intact one.
    Batch(Batch),
    /// One whose checksum is wrong; it is done.
    Damaged { lines: u64, bytes: u64 },
    /// There is none.
    Nothing,
}

impl Store {
    /// Opens a folder, which is made if it is missing. Fails if another process has it.
    pub(super) fn open(folder: &Path, max_bytes: u64) -> io::Result<(Self, Recovered)> {
        fs::create_dir_all(folder)?;
        let lock = File::create(folder.join("lock"))?;
        lock.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "in use by another process")
        })?;
        let mut store = Self {
            folder: folder.to_owned(),
            max_bytes,
            segment_bytes: SEGMENT_BYTES.min(max_bytes / 8).max(4_096),
            segments: BTreeMap::new(),
            writing: None,
            reading: None,
            next_number: 0,
            unsynced_lines: 0,
            _lock: lock,
        };
        let mut recovered = Recovered::default();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(number) = segment_number(&path) else {
                continue;
            };
            let (segment, skipped) = Segment::recover(path, number)?;
            recovered.skipped_bytes += skipped;
            recovered.batches += u64::from(segment.unread_records);
            recovered.lines += segment.unread_lines;
            store.next_number = store.next_number.max(number + 1);
            if segment.done == segment.records {
                segment.remove();
            } else {
                store.segments.insert(number, segment);
            }
        }
        Ok((store, recovered))
    }

    /// Writes a batch behind all others. `false` if there is no room for it.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<bool> {
        let head = Head::of(batch);
        if self.bytes() + head.record_length() > self.max_bytes {
            return Ok(false);
        }
        let full = |(number, _): &(u64, File)| {
            let segment = self.segments.get(number);
            segment.is_none_or(|segment| segment.length >= self.segment_bytes)
        };
        if self.writing.as_ref().is_none_or(full) {
            self.sync()?;
            let (segment, file) = Segment::create(&self.folder, self.next_number)?;
            self.next_number += 1;
            self.writing = Some((segment.number, file));
            self.segments.insert(segment.number, segment);
            // So that the file's name survives a power cut too.
            File::open(&self.folder)?.sync_all()?;
        }
        let (number, file) = self.writing.as_mut().expect("a segment was just begun");
        let segment = self
            .segments
            .get_mut(number)
            .expect("the segment written to is known");
        let written = file
            .write_all(&head.write())
            .and_then(|()| file.write_all(&batch.body));
        if let Err(reason) = written {
            // Half a record is a torn tail: nothing may follow it.
            self.writing = None;
            return Err(reason);
        }
        segment.length += head.record_length();
        segment.records += 1;
        segment.unread_records += 1;
        segment.unread_lines += u64::from(batch.lines);
        segment.undone_lines += u64::from(batch.lines);
        segment.oldest.get_or_insert(batch.closed);
        self.unsynced_lines += u64::from(batch.lines);
        Ok(true)
    }

    /// Reads the oldest batch that nobody has read.
    pub(super) fn next(&mut self) -> io::Result<Next> {
        loop {
            let wanted = self
                .segments
                .values()
                .find(|segment| segment.unread_records > 0);
            let Some(number) = wanted.map(|segment| segment.number) else {
                return Ok(Next::Nothing);
            };
            let segment = self.segments.get_mut(&number).expect("it was just found");
            if self
                .reading
                .as_ref()
                .is_none_or(|reader| reader.number != number)
            {
                self.reading = Some(segment.reader()?);
            }
            let reader = self.reading.as_mut().expect("it was just opened");
            let Some(found) = reader.next(segment.length)? else {
                // The count was wrong: something outside has changed the file.
                segment.unread_records = 0;
                segment.unread_lines = 0;
                segment.undone_lines = 0;
                segment.done = segment.records;
                self.tidy();
                continue;
            };
            segment.unread_records -= 1;
            segment.unread_lines = segment
                .unread_lines
                .saturating_sub(u64::from(found.head.lines));
            let Some(body) = found.body else {
                segment.note_done(found.index, found.head.lines);
                let (lines, bytes) = (u64::from(found.head.lines), found.head.record_length());
                self.remove_if_done(number);
                return Ok(Next::Damaged { lines, bytes });
            };
            return Ok(Next::Batch(Batch {
                body: Bytes::from(body),
                lines: found.head.lines,
                raw_bytes: found.head.raw_bytes,
                closed: found.head.closed,
                ticket: Some(Ticket {
                    segment: number,
                    index: found.index,
                    lines: found.head.lines,
                }),
            }));
        }
    }

    /// Notes that a batch that was read is done.
    pub(super) fn done(&mut self, ticket: Ticket) {
        // The segment may have been dropped meanwhile.
        if let Some(segment) = self.segments.get_mut(&ticket.segment) {
            segment.note_done(ticket.index, ticket.lines);
            self.remove_if_done(ticket.segment);
        }
    }

    /// Removes the oldest segment and returns how many lines nobody has read are lost with it.
    pub(super) fn drop_oldest(&mut self) -> Option<u64> {
        let (number, segment) = self.segments.pop_first()?;
        if self.is_writing(number) {
            self.writing = None;
        }
        if self
            .reading
            .as_ref()
            .is_some_and(|reader| reader.number == number)
        {
            self.reading = None;
        }
        let lines = segment.unread_lines;
        segment.remove();
        Some(lines)
    }

    /// Makes what was written survive a power cut, and returns how many lines that is news for.
    pub(super) fn sync(&mut self) -> io::Result<u64> {
        if self.unsynced_lines > 0
            && let Some((_, file)) = &self.writing
        {
            file.sync_data()?;
        }
        Ok(std::mem::take(&mut self.unsynced_lines))
    }

    /// Removes the segment that is written to if all in it is done.
    pub(super) fn tidy(&mut self) {
        let done = |segment: &Segment| segment.records > 0 && segment.done >= segment.records;
        let all_done: Vec<u64> = self
            .segments
            .values()
            .filter(|segment| done(segment))
            .map(|segment| segment.number)
            .collect();
        for number in all_done {
            if self.is_writing(number) {
                self.writing = None;
            }
            self.remove(number);
        }
    }

    pub(super) fn depth(&self) -> Depth {
        let segments = self.segments.values();
        Depth {
            bytes: self.bytes(),
            segments: self.segments.len() as u64,
            unread_batches: segments
                .clone()
                .map(|segment| u64::from(segment.unread_records))
                .sum(),
            unread_lines: segments.clone().map(|segment| segment.unread_lines).sum(),
            oldest: segments
                .filter(|segment| segment.done < segment.records)
                .find_map(|segment| segment.oldest),
        }
    }

    /// Lines of all records that are not done.
    pub(super) fn undone_lines(&self) -> u64 {
        let segments = self.segments.values();
        segments.map(|segment| segment.undone_lines).sum()
    }

    fn bytes(&self) -> u64 {
        self.segments.values().map(|segment| segment.length).sum()
    }

    fn is_writing(&self, number: u64) -> bool {
        self.writing
            .as_ref()
            .is_some_and(|(writing, _)| *writing == number)
    }

    fn remove_if_done(&mut self, number: u64) {
        let done = self
            .segments
            .get(&number)
            .is_some_and(|segment| segment.done >= segment.records);
        if done && !self.is_writing(number) {
            self.remove(number);
        }
    }

    fn remove(&mut self, number: u64) {
        if self
            .reading
            .as_ref()
            .is_some_and(|reader| reader.number == number)
        {
            self.reading = None;
        }
        if let Some(segment) = self.segments.remove(&number) {
            segment.remove();
        }
    }
}

fn segment_number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    u64::from_str_radix(name.strip_suffix(".seg")?, 16).ok()
}
