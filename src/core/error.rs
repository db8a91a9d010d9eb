//! The one error type that crosses crates: what happened, whether trying again can help, where, and what to do.

use std::fmt;

use crate::place::Place;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of thing went wrong. Decides the exit status, the restart, and which words a user can search for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The text is not a statement.
    Syntax,
    /// A name that is not there, or is there twice.
    Name,
    /// Types that do not go together.
    Type,
    /// A construct that is valid SQL and not supported (yet).
    Unsupported,
    /// An option that is unknown, missing or has a bad value.
    Option,
    /// A row that cannot be read, computed or written: bad input, overflow, division by zero, NULL in NOT NULL.
    Row,
    /// A changelog that contradicts itself: a delete of what is not there, a violated key.
    Changelog,
    /// A checkpoint that is damaged, of another job, or does not fit the graph.
    Checkpoint,
    /// Another process or attempt owns what this one wanted to write.
    Ownership,
    /// Credentials or rights.
    Access,
    /// I/O, connections, time-outs: trying again can help.
    Io,
    /// The user ended it.
    Cancelled,
    /// A broken invariant of Thalweg's own.
    Internal,
}

/// An error with everything that a person needs to act on it. Cheap to move: one pointer.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: ErrorCode,
    transient: bool,
    message: String,
    place: Option<Place>,
    /// Follows the marked place: `did you mean "amount"?`
    proposal: Option<String>,
    /// Further lines: what there is, what to do.
    notes: Vec<String>,
    /// Where those notes belong that have a place of their own: (index of the note, place).
    note_places: Vec<(usize, Place)>,
}

impl Error {
    /// A permanent error: the same input would fail again.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let transient = code == ErrorCode::Io;
        Error(Box::new(Inner {
            code,
            transient,
            message: message.into(),
            place: None,
            proposal: None,
            notes: vec![],
            note_places: vec![],
        }))
    }

    pub fn syntax(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Syntax, message)
    }

    pub fn name(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Name, message)
    }

    pub fn type_(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Type, message)
    }

    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Unsupported, message)
    }

    pub fn option(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Option, message)
    }

    pub fn row(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Row, message)
    }

    pub fn changelog(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Changelog, message)
    }

    pub fn checkpoint(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Checkpoint, message)
    }

    pub fn ownership(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Ownership, message)
    }

    /// A transient error: I/O, a connection, a time-out.
    pub fn io(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Io, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::Internal, message)
    }

    pub fn cancelled() -> Self {
        Self::new(ErrorCode::Cancelled, "cancelled")
    }

    /// Where in the statement; an earlier, closer place is kept.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.0.place.get_or_insert(place);
        self
    }

    /// Replaces all places, for example by those in the script that the statement stands in.
    #[must_use]
    pub fn map_place(mut self, f: impl Fn(Place) -> Place) -> Self {
        self.0.place = self.0.place.map(&f);
        self.0.note_places.iter_mut().for_each(|(_, place)| *place = f(*place));
        self
    }

    /// The words behind the marked place: `did you mean "amount"?`
    #[must_use]
    pub fn propose(mut self, proposal: Option<impl Into<String>>) -> Self {
        self.0.proposal = proposal.map(Into::into).or(self.0.proposal);
        self
    }

    /// One more line below: what there is, or what to do.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.0.notes.push(note.into());
        self
    }

    /// One more line below, about another place in the statement.
    #[must_use]
    pub fn note_at(mut self, place: Option<Place>, note: impl Into<String>) -> Self {
        self.0.note_places.extend(place.map(|p| (self.0.notes.len(), p)));
        self.note(note)
    }

    /// Says what was being done: `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.0.message = format!("{context}: {}", self.0.message);
        self
    }

    /// Trying again does not help, or nobody wants to wait for it: a server that was never reached.
    #[must_use]
    pub fn permanent(mut self) -> Self {
        self.0.transient = false;
        self
    }

    /// Trying again can help (a panic of a worker, a server that went away).
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.0.transient = true;
        self
    }

    pub fn code(&self) -> ErrorCode {
        self.0.code
    }

    pub fn is_transient(&self) -> bool {
        self.0.transient
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn place(&self) -> Option<Place> {
        self.0.place
    }

    pub fn proposal(&self) -> Option<&str> {
        self.0.proposal.as_deref()
    }

    pub fn notes(&self) -> &[String] {
        &self.0.notes
    }

    /// The notes with their own places.
    pub fn placed_notes(&self) -> impl Iterator<Item = (Option<Place>, &str)> {
        let place = |i: usize| self.0.note_places.iter().find(|(note, _)| *note == i).map(|(_, place)| *place);
        self.0.notes.iter().enumerate().map(move |(i, note)| (place(i), note.as_str()))
    }
}

/// One line: message, proposal and notes behind one another, for logs.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        if let Some(place) = self.0.place {
            write!(f, " ({place})")?;
        }
        if let Some(proposal) = &self.0.proposal {
            write!(f, "; {proposal}")?;
        }
        for (place, note) in self.placed_notes() {
            write!(f, "; {note}")?;
            if let Some(place) = place {
                write!(f, " ({place})")?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lasting = if self.0.transient { "transient" } else { "permanent" };
        write!(f, "{:?} ({lasting}): {self}", self.0.code)
    }
}

impl std::error::Error for Error {}

/// I/O errors are transient, but for those that no repetition cures.
impl From<std::io::Error> for Error {
    fn from(e: std::io::Error) -> Self {
        use std::io::ErrorKind::*;
        match e.kind() {
            PermissionDenied => Error::new(ErrorCode::Access, e.to_string()),
            NotFound | AlreadyExists | InvalidInput | InvalidData | Unsupported => Error::io(e.to_string()).permanent(),
            _ => Error::io(e.to_string()),
        }
    }
}

/// What an Arrow kernel says of values is about the rows.
impl From<arrow::error::ArrowError> for Error {
    fn from(e: arrow::error::ArrowError) -> Self {
        use arrow::error::ArrowError::*;
        match e {
            DivideByZero => Error::row("division by zero"),
            ArithmeticOverflow(m) | ComputeError(m) | CastError(m) | ParseError(m) => Error::row(m),
            NotYetImplemented(m) => Error::unsupported(m),
            InvalidArgumentError(m) => Error::row(m),
            other => Error::internal(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_is_transient_and_a_row_is_not() {
        assert!(Error::io("connection refused").is_transient());
        assert!(!Error::row("division by zero").is_transient());
    }

    #[test]
    fn notes_keep_their_places() {
        let e = Error::name("x").note("a").note_at(Some(Place::new(2, 3, 1)), "b").note_at(None, "c");
        let e = e.map_place(|p| p.offset_by(10, 1));
        let notes: Vec<_> = e.placed_notes().collect();
        assert_eq!(notes, [(None, "a"), (Some(Place::new(11, 3, 1)), "b"), (None, "c")]);
        assert_eq!(e.to_string(), "x; a; b (line 11, column 3); c");
    }

    #[test]
    fn the_closest_place_is_kept() {
        let e = Error::name("no table t").at(Place::new(1, 2, 1)).at(Place::new(9, 9, 1));
        assert_eq!(e.place(), Some(Place::new(1, 2, 1)));
    }
}
