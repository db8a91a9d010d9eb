//! Words that are no SQL: help and leaving.

pub enum Command<'a> {
    Quit,
    Help(Option<&'a str>),
    /// Begins with a backslash, and is none.
    Unknown(&'a str),
}

/// The command that a line is, if it is none of SQL. Within a statement (`goes_on`) only what begins with a backslash
/// is one.
pub fn command(text: &str, goes_on: bool) -> Option<Command<'_>> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let (word, topic) = text.split_once(char::is_whitespace).map_or((text, None), |(w, t)| (w, Some(t.trim())));
    match word.to_lowercase().as_str() {
        "\\q" if topic.is_none() => Some(Command::Quit),
        "\\h" | "\\?" => Some(Command::Help(topic)),
        other if other.starts_with('\\') => Some(Command::Unknown(word)),
        "quit" | "exit" if topic.is_none() && !goes_on => Some(Command::Quit),
        "help" if !goes_on => Some(Command::Help(topic)),
        _ => None,
    }
}

const TOPICS: [(&str, &str); 6] = [
    (
        "create",
        "\
CREATE [TEMPORARY] TABLE [IF NOT EXISTS] t (
  a BIGINT NOT NULL, b AS a * 2, PRIMARY KEY (a) NOT ENFORCED
) WITH ('connector' = '…', …);
Without WITH it is a table of Thalweg's own, in memory.
CREATE VIEW v AS SELECT …;   DROP TABLE t;   DROP VIEW v;
",
    ),
    (
        "select",
        "\
SELECT … FROM … [JOIN … ON …] [WHERE …] [GROUP BY … [HAVING …]]
  [ORDER BY … [LIMIT n]];
Bounded input: the answer as a table.
Unbounded: its changes as they come, +I -U +U -D, until Ctrl-C.
",
    ),
    (
        "insert",
        "\
INSERT INTO t SELECT … | VALUES …;   starts a job if t has a connector
EXECUTE STATEMENT SET BEGIN INSERT …; INSERT …; END;   one job, several sinks
UPDATE t SET … WHERE …;   DELETE FROM t WHERE …;   of tables of Thalweg's own
",
    ),
    ("jobs", "SHOW JOBS;   STOP JOB name;   takes a final checkpoint and delivers\n"),
    ("set", "SET;   shows all settings.   SET 'key' = 'value';   RESET 'key';   RESET;\n"),
    (
        "show",
        "\
SHOW TABLES | VIEWS | FUNCTIONS [LIKE 'pattern'] | JOBS;   DESCRIBE t;
SHOW CREATE TABLE t | CREATE VIEW v;
EXPLAIN [VERBOSE] SELECT … | INSERT …;   the operators, their ids, their state
",
    ),
];

/// General help, or that of a topic.
pub fn text(topic: Option<&str>) -> String {
    let topics = TOPICS.map(|t| t.0).join(", ");
    match topic {
        None => format!(
            "\
Statements end with ; and may span lines. Tab completes, ↑ and Ctrl-R recall.
Ctrl-C ends the running query, or drops what is typed; Ctrl-D or \\q leaves.
help TOPIC: {topics}
"
        ),
        Some(topic) => match TOPICS.iter().find(|t| t.0.eq_ignore_ascii_case(topic)) {
            Some((_, text)) => (*text).to_owned(),
            None => format!("no help on {topic}; topics: {topics}\n"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_words_of_the_shell_are_commands() {
        assert!(matches!(command(" \\q ", false), Some(Command::Quit)));
        assert!(matches!(command("exit;", false), Some(Command::Quit)));
        assert!(matches!(command("help select", false), Some(Command::Help(Some("select")))));
        assert!(matches!(command("\\dt", false), Some(Command::Unknown("\\dt"))));
        assert!(command("SELECT 1;", false).is_none());
        // Within a statement a word is SQL.
        assert!(command("exit", true).is_none() && command("help", true).is_none());
        assert!(matches!(command("\\q", true), Some(Command::Quit)));
    }

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        for topic in [None, Some("nothing")].into_iter().chain(TOPICS.iter().map(|t| Some(t.0))) {
            assert!(text(topic).lines().all(|l| l.chars().count() < 80), "{}", text(topic));
        }
    }
}
