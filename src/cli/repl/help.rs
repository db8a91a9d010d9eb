//! Words that are no SQL: help and leaving.

pub enum Command<'a> {
    Quit,
    Help(Option<&'a str>),
}

/// The command that a text is, if it is none of SQL.
pub fn command(text: &str) -> Option<Command<'_>> {
    let text = text.trim().trim_end_matches(';').trim_end();
    let (word, topic) = text.split_once(char::is_whitespace).map_or((text, None), |(w, t)| (w, Some(t.trim())));
    match word.to_lowercase().as_str() {
        "\\q" | "quit" | "exit" if topic.is_none() => Some(Command::Quit),
        "\\h" | "\\?" | "help" => Some(Command::Help(topic)),
        _ => None,
    }
}

const TOPICS: [(&str, &str); 6] = [
    (
        "create",
        "CREATE [TEMPORARY] TABLE [IF NOT EXISTS] t (column TYPE [NOT NULL], c AS expr, …, PRIMARY KEY (…) NOT ENFORCED)\n  WITH ('connector' = '…', …);  without WITH: a table of Thalweg's own, in memory\nCREATE VIEW v AS SELECT …;   DROP TABLE t;   DROP VIEW v;\n",
    ),
    (
        "select",
        "SELECT … FROM … [JOIN … ON …] [WHERE …] [GROUP BY … [HAVING …]] [ORDER BY … [LIMIT n]];\nBounded input: the answer as a table. Unbounded: its changes as they come, +I -U +U -D, until Ctrl-C.\n",
    ),
    (
        "insert",
        "INSERT INTO t SELECT … | VALUES …;   starts a job if t has a connector\nEXECUTE STATEMENT SET BEGIN INSERT …; INSERT …; END;   one job with several sinks\nUPDATE t SET … WHERE …;   DELETE FROM t WHERE …;   of tables of Thalweg's own\n",
    ),
    ("jobs", "SHOW JOBS;   STOP JOB name;   takes a final checkpoint and delivers\n"),
    ("set", "SET;   shows all settings.   SET 'key' = 'value';   RESET 'key';   RESET;\n"),
    (
        "show",
        "SHOW TABLES | VIEWS | FUNCTIONS | JOBS | CREATE TABLE t | CREATE VIEW v;   DESCRIBE t;\nEXPLAIN [VERBOSE] SELECT … | INSERT …;   the operators, their ids, their state\n",
    ),
];

/// General help, or that of a topic.
pub fn text(topic: Option<&str>) -> String {
    let topics = TOPICS.map(|t| t.0).join(", ");
    match topic {
        None => format!(
            "Statements end with ; and may span lines. Tab completes, Ctrl-R searches the history.\nCtrl-C ends the running query, Ctrl-D or \\q leaves.\nhelp TOPIC: {topics}\n"
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
        assert!(matches!(command(" \\q "), Some(Command::Quit)));
        assert!(matches!(command("exit;"), Some(Command::Quit)));
        assert!(matches!(command("help select"), Some(Command::Help(Some("select")))));
        assert!(command("SELECT 1;").is_none());
    }
}
