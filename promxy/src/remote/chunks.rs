//! Samples in chunks, as storages and streamed answers have them: floats and histograms by turns, in the order of time.

use super::{
    RemoteError,
    histograms::{Counts, Growing, Histograms},
    messages::Chunk,
    xor,
};
use crate::series::{Native, Samples};

/// The kinds of chunks.
const FLOATS: i32 = 1;
const HISTOGRAMS: i32 = 2;
const FLOAT_HISTOGRAMS: i32 = 3;

/// How many floats a chunk has. Prometheus' own are as long.
const MOST_FLOATS: usize = 120;

/// What is in a chunk.
#[derive(Debug)]
pub enum Content<'a> {
    /// Numbers with their times.
    Floats(Vec<(i64, f64)>),
    /// Histograms, read while they are taken.
    Histograms(Box<Histograms<'a>>),
}

/// Opens a chunk.
pub fn open(chunk: &Chunk) -> Result<Content<'_>, RemoteError> {
    let histograms = |counts| {
        let histograms = Histograms::new(counts, &chunk.data)?;
        Ok(Content::Histograms(Box::new(histograms)))
    };
    match chunk.kind {
        FLOATS => xor::read(&chunk.data).map(Content::Floats),
        HISTOGRAMS => histograms(Counts::Integers),
        FLOAT_HISTOGRAMS => histograms(Counts::Floats),
        kind => Err(RemoteError::UnknownChunk(kind)),
    }
}

/// Packs the samples of a series, whose times ascend. Of a float and a histogram with the same time, the float stays, as it does
/// where Prometheus reads both in one message.
pub fn pack(samples: &Samples<Native>) -> Vec<Chunk> {
    let (mut floats, mut histograms) = (&*samples.floats, &*samples.histograms);
    let mut chunks = Vec::new();
    while !floats.is_empty() || !histograms.is_empty() {
        let until = histograms.first().map_or(i64::MAX, |(time, _)| *time);
        let run = floats.partition_point(|(time, _)| *time <= until);
        let (now, later) = floats.split_at(run);
        chunks.extend(now.chunks(MOST_FLOATS).map(float_chunk));
        floats = later;
        let is_taken = now.last().is_some_and(|(time, _)| *time == until);
        histograms = &histograms[usize::from(is_taken && !histograms.is_empty())..];
        let until = floats.first().map_or(i64::MAX, |(time, _)| *time);
        let run = match floats {
            [] => histograms.len(),
            _ => histograms.partition_point(|(time, _)| *time < until),
        };
        let (now, later) = histograms.split_at(run);
        pack_histograms(now, &mut chunks);
        histograms = later;
    }
    chunks
}

fn float_chunk(samples: &[(i64, f64)]) -> Chunk {
    Chunk {
        min_time_ms: samples.first().map_or(0, |sample| sample.0),
        max_time_ms: samples.last().map_or(0, |sample| sample.0),
        kind: FLOATS,
        data: xor::write(samples),
    }
}

fn pack_histograms(samples: &[(i64, Native)], chunks: &mut Vec<Chunk>) {
    let mut growing: Option<Growing> = None;
    for (time, histogram) in samples {
        let mut open = growing.as_mut();
        if open
            .as_mut()
            .is_some_and(|chunk| chunk.append(*time, histogram))
        {
            continue;
        }
        let next = Growing::new(*time, histogram, open.map(|chunk| chunk.last()));
        chunks.extend(growing.replace(next).map(histogram_chunk));
    }
    chunks.extend(growing.map(histogram_chunk));
}

fn histogram_chunk(grown: Growing) -> Chunk {
    let (data, min_time_ms, max_time_ms) = grown.finish();
    Chunk {
        min_time_ms,
        max_time_ms,
        kind: FLOAT_HISTOGRAMS,
        data,
    }
}
