//! One file of the spool, and the file beside it that says which of its records are done.

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::record::{HEAD, Head, MAGIC};
use crate::batch::Moment;

/// How far a search for the next intact record reads at a time.
const SEARCH: usize = 64 * 1024;

/// A file of records.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    path: PathBuf,
    /// Bytes up to the end of the last record.
    pub(super) length: u64,
    /// Intact records, those that are done included.
    pub(super) records: u32,
    /// Records that are done: delivered, dropped or damaged.
    pub(super) done: u32,
    /// Lines in records that are not done.
    pub(super) undone_lines: u64,
    /// Lines in records that nobody has read yet.
    pub(super) unread_lines: u64,
    /// Records that nobody has read yet.
    pub(super) unread_records: u32,
    /// When the first of its batches was closed.
    pub(super) oldest: Option<Moment>,
    acks: Option<File>,
}

impl Segment {
    /// Makes a file for new records.
    pub(super) fn create(folder: &Path, number: u64) -> io::Result<(Self, File)> {
        let path = folder.join(format!("{number:016x}.seg"));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        Ok((Self::empty(number, path), file))
    }

    fn empty(number: u64, path: PathBuf) -> Self {
        Self {
            number,
            path,
            length: 0,
            records: 0,
            done: 0,
            undone_lines: 0,
            unread_lines: 0,
            unread_records: 0,
            oldest: None,
            acks: None,
        }
    }

    /// Looks through a file that an earlier process has left. Returns how many of its bytes are no records.
    pub(super) fn recover(path: PathBuf, number: u64) -> io::Result<(Self, u64)> {
        let mut segment = Self::empty(number, path);
        segment.length = fs::metadata(&segment.path)?.len();
        let done = segment.read_acks();
        let mut records = Records::open(&segment.path, segment.length)?;
        while let Some(found) = records.next_head()? {
            segment.oldest.get_or_insert(found.head.closed);
            segment.records += 1;
            if done.contains(&found.index) {
                segment.done += 1;
            } else {
                segment.unread_records += 1;
                segment.unread_lines += u64::from(found.head.lines);
            }
        }
        segment.undone_lines = segment.unread_lines;
        Ok((segment, records.skipped))
    }

    /// Opens the file for reading its records one after another.
    pub(super) fn reader(&self) -> io::Result<Reader> {
        Ok(Reader {
            number: self.number,
            records: Records::open(&self.path, self.length)?,
            done: self.read_acks(),
        })
    }

    /// Notes that a record is done. What cannot be noted is sent twice after a restart, which does no harm.
    pub(super) fn note_done(&mut self, index: u32, lines: u32) {
        self.done += 1;
        self.undone_lines = self.undone_lines.saturating_sub(u64::from(lines));
        if self.acks.is_none() {
            let acks = OpenOptions::new()
                .append(true)
                .create(true)
                .open(self.acks_path());
            self.acks = acks.ok();
        }
        if let Some(acks) = &mut self.acks {
            let _noted = acks.write_all(&index.to_le_bytes()).is_ok();
        }
    }

    /// Removes the files.
    pub(super) fn remove(self) {
        let _segment_gone = fs::remove_file(&self.path).is_ok();
        let _acks_gone = fs::remove_file(self.acks_path()).is_ok();
    }

    fn acks_path(&self) -> PathBuf {
        self.path.with_extension("ack")
    }

    fn read_acks(&self) -> HashSet<u32> {
        let bytes = fs::read(self.acks_path()).unwrap_or_default();
        let words = bytes.chunks_exact(4);
        words
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect()
    }
}

/// Reads the records of a segment that are not done.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) number: u64,
    records: Records,
    done: HashSet<u32>,
}

/// A record that was read.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) index: u32,
    pub(super) head: Head,
    /// `None` if its checksum is wrong.
    pub(super) body: Option<Vec<u8>>,
}

impl Reader {
    /// Reads on, up to `length`, which may have grown since.
    pub(super) fn next(&mut self, length: u64) -> io::Result<Option<Found>> {
        self.records.end = length;
        while let Some(at) = self.records.next_head()? {
            if self.done.contains(&at.index) {
                continue;
            }
            let mut body = vec![0; at.head.length as usize];
            self.records.file.seek(SeekFrom::Start(at.body))?;
            self.records.file.read_exact(&mut body)?;
            let intact = crc32fast::hash(&body) == at.head.body_crc;
            return Ok(Some(Found {
                index: at.index,
                head: at.head,
                body: intact.then_some(body),
            }));
        }
        Ok(None)
    }
}

/// Walks over the heads of a file.
#[derive(Debug)]
struct Records {
    file: BufReader<File>,
    /// Where the next record should begin.
    at: u64,
    /// Where records end.
    end: u64,
    index: u32,
    /// Bytes that were no records.
    skipped: u64,
}

struct At {
    index: u32,
    head: Head,
    /// Where the stream begins.
    body: u64,
}

impl Records {
    fn open(path: &Path, end: u64) -> io::Result<Self> {
        Ok(Self {
            file: BufReader::new(File::open(path)?),
            at: 0,
            end,
            index: 0,
            skipped: 0,
        })
    }

    /// Finds the next intact head whose stream lies within the file.
    fn next_head(&mut self) -> io::Result<Option<At>> {
        loop {
            if self.at + HEAD as u64 > self.end {
                self.skipped += self.end.saturating_sub(self.at);
                self.at = self.at.max(self.end);
                return Ok(None);
            }
            self.file.seek(SeekFrom::Start(self.at))?;
            let mut bytes = [0; HEAD];
            self.file.read_exact(&mut bytes)?;
            match Head::read(&bytes).filter(|head| self.at + head.record_length() <= self.end) {
                Some(head) => {
                    let found = At {
                        index: self.index,
                        head,
                        body: self.at + HEAD as u64,
                    };
                    self.at += head.record_length();
                    self.index += 1;
                    return Ok(Some(found));
                }
                None => self.search()?,
            }
        }
    }

    /// Goes to the next place, after the present one, that could be a head.
    fn search(&mut self) -> io::Result<()> {
        let from = self.at;
        let mut at = from + 1;
        let mut block = vec![0; SEARCH];
        while at + HEAD as u64 <= self.end {
            self.file.seek(SeekFrom::Start(at))?;
            let wanted = block.len().min((self.end - at) as usize);
            self.file.read_exact(&mut block[..wanted])?;
            if let Some(place) = memchr::memmem::find(&block[..wanted], &MAGIC) {
                self.at = at + place as u64;
                self.skipped += self.at - from;
                return Ok(());
            }
            // The last bytes may be the beginning of a head.
            at += (wanted - MAGIC.len() + 1) as u64;
        }
        self.at = self.end;
        self.skipped += self.end - from;
        Ok(())
    }
}
