//! What a starting job delivers: the decision as a pure function over facts already read. Before it, the sink was fenced;
//! so nobody else writes to the target between the facts and the delivery.

use std::fmt;
use std::ops::RangeInclusive;

use thalweg_core::Error;
use thalweg_core::mark::{JobId, Mark};

/// All that the decision depends on, for one sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub job: JobId,
    /// As the user calls the sink.
    pub sink: String,
    /// The storage has it on record that the target has the segments up to this number; 0: none.
    pub recorded: u64,
    /// The last segment that may have been given to the target: all that was staged before (but for what was kept from a
    /// target that was silent then), and what this attempt gave it.
    pub last_staged: u64,
    /// The segments that the storage still holds, whether recorded as delivered or not; `None`: none.
    pub held: Option<RangeInclusive<u64>>,
    /// What the target says.
    pub mark: Mark,
    /// The target cannot keep a mark (an at-least-once sink): what is recorded counts.
    pub keeps_mark: bool,
    /// The user's word that the target has the segments up to this number, where the mark is absent or behind.
    pub assume_delivered: Option<u64>,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Segments from this number up to the last staged are delivered, in order.
    Deliver { from: u64 },
    /// Everything is in the target. `write_mark`: the target has forgotten its mark and gets it anew.
    Nothing { write_mark: bool },
    /// Delivering could lose or repeat rows: the job does not start.
    Refuse(Refusal),
}

/// Why nothing can be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The target's mark is behind what it once confirmed.
    TargetLostSegments { recorded: u64, mark: u64, held: Option<RangeInclusive<u64>> },
    /// Some segments were delivered, the target has no mark, and others wait: which of these it has, nobody can tell.
    InDoubt { segments: RangeInclusive<u64> },
    /// The target has more than was ever staged for it here: the directory is an older copy.
    TargetIsAhead { mark: u64, last_staged: u64 },
    /// The target's mark is another job's.
    OtherJob { job: JobId },
    /// The segments that the target needs next are not in the storage.
    NotHeld { segments: RangeInclusive<u64>, held: Option<RangeInclusive<u64>> },
    /// The user's word contradicts the facts.
    BadAssumption { assumed: u64, recorded: u64, last_staged: u64 },
}

/// The table of the protocol, line by line.
pub fn decide(facts: &Facts) -> Decision {
    let Facts { recorded, last_staged, .. } = *facts;
    let bad = |assumed| Decision::Refuse(Refusal::BadAssumption { assumed, recorded, last_staged });
    // The user's word is for those sinks of the job that are in doubt; the others say themselves what they have.
    let known = match &facts.mark {
        Mark::At { job, .. } if *job != facts.job => {
            return Decision::Refuse(Refusal::OtherJob { job: job.clone() });
        }
        Mark::At { segment: mark, .. } if *mark > last_staged => {
            return Decision::Refuse(Refusal::TargetIsAhead { mark: *mark, last_staged });
        }
        Mark::At { segment: mark, .. } if *mark >= recorded => *mark,
        Mark::At { segment: mark, .. } => match facts.assume_delivered {
            None => {
                let held = facts.held.clone().and_then(|h| above(&h, *mark));
                return Decision::Refuse(Refusal::TargetLostSegments { recorded, mark: *mark, held });
            }
            Some(assumed) if assumed < *mark || assumed > last_staged => return bad(assumed),
            Some(assumed) => assumed,
        },
        Mark::Absent if !facts.keeps_mark => recorded,
        Mark::Absent if recorded > 0 && recorded >= last_staged => return Decision::Nothing { write_mark: true },
        Mark::Absent => match facts.assume_delivered {
            Some(assumed) if assumed > last_staged => return bad(assumed),
            Some(assumed) => assumed,
            None if recorded == 0 => 0,
            None => return Decision::Refuse(Refusal::InDoubt { segments: recorded + 1..=last_staged }),
        },
    };
    if known >= last_staged {
        // By the user's word the target has everything, but its mark does not say so.
        let behind = facts.keeps_mark && facts.assume_delivered.is_some_and(|a| a > 0) && mark_of(facts) != known;
        return Decision::Nothing { write_mark: behind };
    }
    let needed = known + 1..=last_staged;
    match &facts.held {
        Some(held) if held.contains(needed.start()) && held.contains(needed.end()) => {
            Decision::Deliver { from: known + 1 }
        }
        held => Decision::Refuse(Refusal::NotHeld { segments: needed, held: held.clone() }),
    }
}

fn mark_of(facts: &Facts) -> u64 {
    match facts.mark {
        Mark::Absent => 0,
        Mark::At { segment, .. } => segment,
    }
}

fn above(held: &RangeInclusive<u64>, mark: u64) -> Option<RangeInclusive<u64>> {
    let range = (*held.start()).max(mark + 1)..=*held.end();
    (!range.is_empty()).then_some(range)
}

/// One sentence.
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TargetLostSegments { recorded, mark, held } => {
                write!(
                    f,
                    "the target has lost segments: it confirmed them up to {recorded}, its mark says {mark} now; {}",
                    still_held(held)
                )
            }
            Refusal::InDoubt { segments } => write!(
                f,
                "the target has no mark, though something was delivered to it before: whether it has {} cannot be told",
                numbers(segments)
            ),
            Refusal::TargetIsAhead { mark, last_staged } => write!(
                f,
                "the target has segments up to {mark}, from this directory it had only {last_staged}: it is an older copy of the directory that delivered them"
            ),
            Refusal::OtherJob { job } => write!(f, "the target holds the mark of another job, {job}"),
            Refusal::NotHeld { segments, held } => {
                write!(f, "the target needs {}; {}", numbers(segments), still_held(held))
            }
            Refusal::BadAssumption { assumed, recorded, last_staged } => write!(
                f,
                "--assume-delivered {assumed} contradicts the facts: delivered for certain up to {recorded}, at most up to {last_staged}"
            ),
        }
    }
}

fn numbers(range: &RangeInclusive<u64>) -> String {
    if range.start() == range.end() {
        format!("segment {}", range.start())
    } else {
        format!("segments {} to {}", range.start(), range.end())
    }
}

fn still_held(held: &Option<RangeInclusive<u64>>) -> String {
    match held {
        Some(range) => format!("still held are {}", numbers(range)),
        None => "none is held any more".to_owned(),
    }
}

impl Refusal {
    /// What to do about it.
    pub fn advice(&self) -> String {
        match self {
            Refusal::TargetLostSegments { recorded, mark, held } => {
                let again = match held {
                    Some(range) => {
                        format!("--assume-delivered {} to write {} again; ", range.start() - 1, numbers(range))
                    }
                    None => String::new(),
                };
                let rest = match held {
                    Some(range) if *range.start() == mark + 1 => "",
                    _ => " (what lies between is lost)",
                };
                format!(
                    "bring the target's rows back; or {again}--assume-delivered {recorded} to go on without what it lost{rest}; or --fresh to write everything again"
                )
            }
            Refusal::InDoubt { segments } => format!(
                "look into the target, then: --assume-delivered {} if it has none of them, --assume-delivered {} if it has all; or --fresh to write everything again",
                segments.start() - 1,
                segments.end()
            ),
            Refusal::TargetIsAhead { .. } => {
                "use the newest copy of the directory; or --fresh with an emptied target".to_owned()
            }
            Refusal::OtherJob { .. } => {
                "give the table another target, or remove the other job's mark if that job is gone for good".to_owned()
            }
            Refusal::NotHeld { segments, .. } => format!(
                "bring the checkpoint's files back from a backup; or --assume-delivered {} to go on without them",
                segments.end()
            ),
            Refusal::BadAssumption { recorded, last_staged, .. } => {
                format!("give a number from {recorded} to {last_staged}, or leave the flag out")
            }
        }
    }

    /// As an error of the job, naming the sink.
    pub fn to_error(&self, sink: &str) -> Error {
        Error::checkpoint(format!("sink {sink}: {self}")).note(self.advice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAST: u64 = 5;

    fn facts(recorded: u64, last_staged: u64, mark: Option<u64>) -> Facts {
        let job = JobId("mine".into());
        Facts {
            job: job.clone(),
            sink: "out".into(),
            recorded,
            last_staged,
            held: (recorded < last_staged).then_some(recorded + 1..=last_staged),
            mark: mark.map_or(Mark::Absent, |segment| Mark::At { job, segment }),
            keeps_mark: true,
            assume_delivered: None,
        }
    }

    fn refused(facts: &Facts) -> Refusal {
        match decide(facts) {
            Decision::Refuse(r) => r,
            other => panic!("{facts:?} gave {other:?}"),
        }
    }

    #[test]
    fn nothing_recorded_and_no_mark_delivers_all() {
        assert_eq!(decide(&facts(0, LAST, None)), Decision::Deliver { from: 1 });
        assert_eq!(decide(&facts(0, 0, None)), Decision::Nothing { write_mark: false });
    }

    #[test]
    fn with_the_job_s_own_mark_what_is_above_it_is_delivered() {
        for recorded in 0..=LAST {
            for mark in recorded..=LAST {
                let expected = match mark {
                    LAST => Decision::Nothing { write_mark: false },
                    mark => Decision::Deliver { from: mark + 1 },
                };
                assert_eq!(decide(&facts(recorded, LAST, Some(mark))), expected, "{recorded} {mark}");
            }
        }
    }

    #[test]
    fn a_mark_behind_the_record_says_what_is_still_held() {
        for recorded in 1..=LAST {
            for mark in 0..recorded {
                let mut f = facts(recorded, LAST, Some(mark));
                f.held = Some(2..=LAST);
                let held = Some(mark.max(1) + 1..=LAST);
                assert_eq!(refused(&f), Refusal::TargetLostSegments { recorded, mark, held });
            }
        }
    }

    #[test]
    fn without_a_mark_everything_delivered_goes_on_and_a_rest_is_in_doubt() {
        assert_eq!(decide(&facts(LAST, LAST, None)), Decision::Nothing { write_mark: true });
        for recorded in 1..LAST {
            assert_eq!(refused(&facts(recorded, LAST, None)), Refusal::InDoubt { segments: recorded + 1..=LAST });
        }
    }

    #[test]
    fn a_mark_from_the_future_or_of_another_job_is_refused_whatever_is_recorded() {
        for recorded in 0..=LAST {
            for assume_delivered in [None, Some(3)] {
                let ahead = Facts { assume_delivered, ..facts(recorded, LAST, Some(LAST + 1)) };
                assert_eq!(refused(&ahead), Refusal::TargetIsAhead { mark: LAST + 1, last_staged: LAST });
                for segment in 0..=LAST + 1 {
                    let job = JobId("theirs".into());
                    let mark = Mark::At { job: job.clone(), segment };
                    let other = Facts { mark, assume_delivered, ..facts(recorded, LAST, None) };
                    assert_eq!(refused(&other), Refusal::OtherJob { job });
                }
            }
        }
    }

    #[test]
    fn a_sink_without_marks_goes_by_the_record() {
        for recorded in 0..=LAST {
            let f = Facts { keeps_mark: false, ..facts(recorded, LAST, None) };
            let expected = match recorded {
                LAST => Decision::Nothing { write_mark: false },
                n => Decision::Deliver { from: n + 1 },
            };
            assert_eq!(decide(&f), expected);
        }
    }

    #[test]
    fn the_user_s_word_decides_what_is_in_doubt() {
        let with =
            |recorded, mark, assumed| decide(&Facts { assume_delivered: Some(assumed), ..facts(recorded, LAST, mark) });
        assert_eq!(with(2, None, 2), Decision::Deliver { from: 3 });
        assert_eq!(with(2, None, 4), Decision::Deliver { from: 5 });
        assert_eq!(with(2, None, LAST), Decision::Nothing { write_mark: true });
        assert_eq!(with(4, Some(1), 4), Decision::Deliver { from: 5 });
        assert!(matches!(with(2, None, LAST + 1), Decision::Refuse(Refusal::BadAssumption { .. })));
        assert!(matches!(with(4, Some(3), 2), Decision::Refuse(Refusal::BadAssumption { .. })));
        // Another sink is meant: this one is not in doubt.
        for assumed in 0..=LAST + 1 {
            assert_eq!(with(2, Some(3), assumed), Decision::Deliver { from: 4 });
            assert_eq!(with(LAST, None, assumed), Decision::Nothing { write_mark: true });
        }
        // Segment 2 was deleted when it was recorded as delivered.
        assert_eq!(with(2, None, 1), Decision::Refuse(Refusal::NotHeld { segments: 2..=LAST, held: Some(3..=LAST) }));
    }

    #[test]
    fn what_is_not_held_is_never_skipped() {
        let mut f = facts(0, LAST, None);
        f.held = Some(2..=LAST);
        assert_eq!(refused(&f), Refusal::NotHeld { segments: 1..=LAST, held: Some(2..=LAST) });
        f.held = None;
        assert!(refused(&f).to_error("out").message().contains("none is held"));
    }

    /// No combination of small numbers loses or repeats a segment that the facts tell of.
    #[test]
    fn every_decision_is_safe() {
        let marks = || std::iter::once(None).chain((0..=4).map(Some));
        for last in 0..=3 {
            for recorded in 0..=last {
                for mark in marks() {
                    for keeps_mark in [true, false] {
                        let f = Facts { keeps_mark, ..facts(recorded, last, mark) };
                        let has = mark.unwrap_or(0).max(recorded);
                        match decide(&f) {
                            Decision::Deliver { from } => assert!(from == has + 1 && from <= last, "{f:?}"),
                            Decision::Nothing { .. } => assert!(has == last, "{f:?}"),
                            Decision::Refuse(r) => {
                                assert!(!r.to_string().is_empty() && !r.advice().is_empty());
                                let contradicts = mark.is_some_and(|m| m > last || m < recorded);
                                assert!(contradicts || (mark.is_none() && keeps_mark && recorded > 0), "{f:?}");
                            }
                        }
                    }
                }
            }
        }
    }
}
