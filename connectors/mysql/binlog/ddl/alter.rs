//! ALTER TABLE of a captured table: which actions it does not feel, and what they make of its columns.

use super::TableName;
use super::lexer::Token;
use crate::layout::{ServerColumn, TableLayout};
use crate::types::MySqlType;

/// The actions of an ALTER TABLE, parted by commas that stand in no brackets.
pub fn actions(tokens: &[Token]) -> Vec<&[Token]> {
    let mut actions = vec![];
    let (mut begin, mut depth) = (0, 0_usize);
    for (i, token) in tokens.iter().enumerate() {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth = depth.saturating_sub(1),
            Token::Sign(',') if depth == 0 => {
                actions.push(&tokens[begin..i]);
                begin = i + 1;
            }
            _ => {}
        }
    }
    actions.push(&tokens[begin..]);
    actions
}

fn starts(tokens: &[Token], words: &[&str]) -> bool {
    tokens.len() >= words.len() && words.iter().zip(tokens).all(|(w, t)| t.is(w))
}

/// The table's new name, if the action renames it.
pub fn renamed_to(action: &[Token], database: &str) -> Option<TableName> {
    let rest = action.strip_prefix(&[action.first()?.clone()])?;
    if !action[0].is("RENAME") || ["COLUMN", "INDEX", "KEY"].iter().any(|w| rest.first().is_some_and(|t| t.is(w))) {
        return None;
    }
    let rest = if starts(rest, &["TO"]) || starts(rest, &["AS"]) { &rest[1..] } else { rest };
    table_at(if rest.first().is_some_and(|t| t.is_sign('=')) { &rest[1..] } else { rest }, database)
}

/// The table whose rows change places with those of a partition, if that is what the action does.
pub fn exchanged_with(action: &[Token], database: &str) -> Option<TableName> {
    if !starts(action, &["EXCHANGE", "PARTITION"]) {
        return None;
    }
    // Behind the name of the partition.
    let rest = action.get(3..).filter(|rest| starts(rest, &["WITH", "TABLE"]))?;
    table_at(&rest[2..], database)
}

/// The name that stands first.
fn table_at(tokens: &[Token], database: &str) -> Option<TableName> {
    let first = tokens.first()?.name()?.to_owned();
    Some(match tokens.get(1..3) {
        Some([dot, table]) if dot.is_sign('.') => TableName { database: first, table: table.name()?.to_owned() },
        _ => TableName { database: database.to_owned(), table: first },
    })
}

/// The columns behind the statement; `Err`: what the table would feel, as words behind its name.
pub fn apply(layout: &TableLayout, actions: &[&[Token]]) -> Result<Vec<ServerColumn>, String> {
    let mut columns = layout.columns().to_vec();
    for action in actions {
        Altering { layout, columns: &mut columns }.action(action)?;
    }
    Ok(columns)
}

struct Altering<'a> {
    layout: &'a TableLayout,
    columns: &'a mut Vec<ServerColumn>,
}

/// Options of tables that say nothing about rows.
const TABLE_OPTIONS: &[&str] = &[
    "ALGORITHM",
    "AUTOEXTEND_SIZE",
    "AUTO_INCREMENT",
    "AVG_ROW_LENGTH",
    "CHECKSUM",
    "COLLATE",
    "COMMENT",
    "COMPRESSION",
    "CONNECTION",
    "CHARSET",
    "DEFAULT",
    "DELAY_KEY_WRITE",
    "DISABLE",
    "ENABLE",
    "ENCRYPTION",
    "ENGINE_ATTRIBUTE",
    "FORCE",
    "INSERT_METHOD",
    "KEY_BLOCK_SIZE",
    "LOCK",
    "MAX_ROWS",
    "MIN_ROWS",
    "PACK_KEYS",
    "ROW_FORMAT",
    "SECONDARY_ENGINE",
    "SECONDARY_ENGINE_ATTRIBUTE",
    "SECONDARY_LOAD",
    "SECONDARY_UNLOAD",
    "STATS_AUTO_RECALC",
    "STATS_PERSISTENT",
    "STATS_SAMPLE_PAGES",
    "TABLESPACE",
    "WITH",
    "WITHOUT",
];

impl Altering<'_> {
    fn action(&mut self, tokens: &[Token]) -> Result<(), String> {
        let unknown = || Err("was altered in a way that is not known to leave its rows alone".to_owned());
        // `ALTER TABLE t /* nothing */`.
        let Some((first, rest)) = tokens.split_first() else { return Ok(()) };
        let Token::Word(word) = first else { return unknown() };
        match word.to_ascii_uppercase().as_str() {
            "ADD" => self.add(rest),
            "DROP" => self.drop(rest),
            "ALTER" => self.alter(rest),
            "MODIFY" => {
                let rest = if starts(rest, &["COLUMN"]) { &rest[1..] } else { rest };
                let name = name_of(rest.first())?;
                self.redefine(&name, rest)
            }
            "CHANGE" => {
                let rest = if starts(rest, &["COLUMN"]) { &rest[1..] } else { rest };
                let name = name_of(rest.first())?;
                self.redefine(&name, rest.get(1..).unwrap_or_default())
            }
            "RENAME" if starts(rest, &["INDEX"]) || starts(rest, &["KEY"]) => Ok(()),
            "RENAME" if starts(rest, &["COLUMN"]) => {
                let (from, to) = (name_of(rest.get(1))?, name_of(rest.get(3))?);
                let at = self.place(&from)?;
                if self.layout.is_needed(&from) && !same(&from, &to) {
                    return Err(format!("had its column \"{from}\" renamed"));
                }
                self.columns[at].name = to;
                Ok(())
            }
            "RENAME" => Err("was renamed".to_owned()),
            "ENGINE" => match rest.iter().find(|t| !t.is_sign('=')) {
                Some(engine) if engine.is("InnoDB") => Ok(()),
                _ => Err("was given another storage engine".to_owned()),
            },
            "CHARACTER" if starts(rest, &["SET"]) => Ok(()),
            "ORDER" if starts(rest, &["BY"]) => Ok(()),
            "REMOVE" if starts(rest, &["PARTITIONING"]) => Ok(()),
            // Rows that a partition does not take make these fail.
            "PARTITION" if starts(rest, &["BY"]) => Ok(()),
            "REORGANIZE" | "COALESCE" | "REBUILD" | "OPTIMIZE" | "ANALYZE" | "CHECK"
                if starts(rest, &["PARTITION"]) =>
            {
                Ok(())
            }
            "TRUNCATE" => Err("lost the rows of a partition".to_owned()),
            "EXCHANGE" => Err("had a partition exchanged for a table".to_owned()),
            "CONVERT" => Err("was converted to another character set".to_owned()),
            "DISCARD" | "IMPORT" => Err("had its data file exchanged".to_owned()),
            option if TABLE_OPTIONS.contains(&option) => self.options(tokens),
            _ => unknown(),
        }
    }

    /// Several options may stand without a comma, and the partitioning behind them.
    fn options(&mut self, tokens: &[Token]) -> Result<(), String> {
        for (i, token) in tokens.iter().enumerate() {
            let rest = &tokens[i + 1..];
            if token.is("ENGINE") || token.is("UNION") || token.is("CONVERT") {
                return self.action(&tokens[i..]);
            }
            if token.is("PARTITION") && starts(rest, &["BY"]) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn add(&mut self, tokens: &[Token]) -> Result<(), String> {
        let (constraint, tokens) = match tokens.split_first() {
            Some((first, rest)) if first.is("CONSTRAINT") => {
                let kinds = ["PRIMARY", "UNIQUE", "FOREIGN", "CHECK"];
                let named = rest.first().is_some_and(|t| !kinds.iter().any(|k| t.is(k)));
                (true, if named { &rest[1..] } else { rest })
            }
            _ => (false, tokens),
        };
        let Some(first) = tokens.first() else { return Err("was altered incomprehensibly".to_owned()) };
        let is = |word: &str| first.is(word);
        if is("PRIMARY") {
            return Err("was given a primary key".to_owned());
        }
        if is("FOREIGN") {
            return self.references(tokens);
        }
        if constraint || ["INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "CHECK"].iter().any(|w| is(w)) {
            // A column may be called so only in quotes.
            return Ok(());
        }
        if is("PARTITION") {
            return Ok(());
        }
        let tokens = if is("COLUMN") { &tokens[1..] } else { tokens };
        if let Some(inner) = tokens.strip_prefix(&[Token::Sign('(')]) {
            let inner = inner.strip_suffix(&[Token::Sign(')')]).unwrap_or(inner);
            for definition in actions(inner) {
                let index =
                    ["INDEX", "KEY", "FULLTEXT", "SPATIAL", "UNIQUE", "CHECK", "CONSTRAINT", "PRIMARY", "FOREIGN"];
                match definition.first() {
                    Some(first) if index.iter().any(|w| first.is(w)) => self.add(definition)?,
                    _ => self.add_column(definition)?,
                }
            }
            return Ok(());
        }
        self.add_column(tokens)
    }

    fn add_column(&mut self, tokens: &[Token]) -> Result<(), String> {
        let definition = Definition::parse(tokens)?;
        if definition.primary {
            return Err("was given a primary key".to_owned());
        }
        self.references(tokens)?;
        if self.columns.iter().any(|c| same(&c.name, &definition.name)) {
            return Err(format!(
                "was given a column \"{}\" that the server had already when the job began (the job reads events that are older than the columns it knows)",
                definition.name
            ));
        }
        let at = self.target(&definition, self.columns.len())?;
        self.columns.insert(at, definition.column(None));
        Ok(())
    }

    /// A key that changes rows of this table without events of their own.
    fn references(&self, tokens: &[Token]) -> Result<(), String> {
        let acts = tokens.windows(3).any(|w| {
            w[0].is("ON") && (w[1].is("DELETE") || w[1].is("UPDATE")) && (w[2].is("CASCADE") || w[2].is("SET"))
        });
        if acts && !self.layout.allows_cascades() {
            return Err("was given a foreign key that changes its rows without events".to_owned());
        }
        Ok(())
    }

    fn drop(&mut self, tokens: &[Token]) -> Result<(), String> {
        let Some(first) = tokens.first() else { return Err("was altered incomprehensibly".to_owned()) };
        let second = || name_of(tokens.get(1));
        if first.is("PRIMARY") {
            return Err("lost its primary key".to_owned());
        }
        if first.is("PARTITION") {
            return Err("lost the rows of a partition".to_owned());
        }
        if ["INDEX", "KEY", "CONSTRAINT"].iter().any(|w| first.is(w)) {
            return if same(&second()?, "PRIMARY") { Err("lost its primary key".to_owned()) } else { Ok(()) };
        }
        if first.is("FOREIGN") || first.is("CHECK") {
            return Ok(());
        }
        let name = if first.is("COLUMN") { second()? } else { name_of(tokens.first())? };
        if self.layout.is_needed(&name) {
            return Err(format!("lost its column \"{name}\""));
        }
        let at = self.place(&name)?;
        self.columns.remove(at);
        Ok(())
    }

    /// `ALTER [COLUMN] c SET DEFAULT …`, `ALTER INDEX i VISIBLE`, `ALTER CHECK c ENFORCED`.
    fn alter(&mut self, tokens: &[Token]) -> Result<(), String> {
        let Some(first) = tokens.first() else { return Err("was altered incomprehensibly".to_owned()) };
        if ["INDEX", "CHECK", "CONSTRAINT"].iter().any(|w| first.is(w)) {
            return Ok(());
        }
        let at = usize::from(first.is("COLUMN"));
        self.place(&name_of(tokens.get(at))?).map(drop)
    }

    /// A column defined anew, under its name or another one, in its place or another one.
    fn redefine(&mut self, name: &str, tokens: &[Token]) -> Result<(), String> {
        let definition = Definition::parse(tokens)?;
        let at = self.place(name)?;
        let old = self.columns[at].clone();
        if definition.primary {
            return Err("was given a primary key".to_owned());
        }
        self.references(tokens)?;
        if self.layout.is_needed(name) {
            if !same(name, &definition.name) {
                return Err(format!("had its column \"{name}\" renamed"));
            }
            let changed = |why| format!("had its column \"{name}\" changed ({why})");
            definition.keeps_values(&old).map_err(changed)?;
            if self.is_ordered_by_collation(name) && definition.collation != old.collation {
                let collation = old.collation.as_deref().unwrap_or_default();
                return Err(changed(format!(
                    "without COLLATE {collation} a column takes its table's collation, and its keys another order"
                )));
            }
        }
        let computed = self.columns.iter().find(|c| c.generated && self.layout.is_needed(&c.name));
        if let Some(computed) = computed
            && old.column_type != definition.column_type
        {
            return Err(format!("had a column changed that \"{}\" may be computed from", computed.name));
        }
        self.columns.remove(at);
        let at = self.target(&definition, at)?;
        let mut column = definition.column(Some(&old));
        column.nullable &= !self.layout.key().iter().any(|k| same(&k.name, name));
        self.columns.insert(at, column);
        Ok(())
    }

    /// A text column of the key by which a snapshot is cut.
    fn is_ordered_by_collation(&self, name: &str) -> bool {
        self.layout.key().iter().any(|k| k.by_server && same(&k.name, name))
    }

    fn place(&self, name: &str) -> Result<usize, String> {
        self.columns.iter().position(|c| same(&c.name, name)).ok_or_else(|| {
            format!("had a column \"{name}\" when this was written, and has it no more (the job reads events that are older than the columns it knows)")
        })
    }

    fn target(&self, definition: &Definition, otherwise: usize) -> Result<usize, String> {
        match &definition.position {
            None => Ok(otherwise),
            Some(None) => Ok(0),
            Some(Some(after)) => Ok(self.place(after)? + 1),
        }
    }
}

fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

fn name_of(token: Option<&Token>) -> Result<String, String> {
    token.and_then(Token::name).map(str::to_owned).ok_or_else(|| "was altered incomprehensibly".to_owned())
}

/// A column's definition.
struct Definition {
    name: String,
    /// As `COLUMN_TYPE` would have it, where we can tell.
    column_type: String,
    charset: Option<String>,
    collation: Option<String>,
    not_null: bool,
    generated: bool,
    primary: bool,
    /// `Some(None)`: FIRST; `Some(Some(c))`: AFTER c.
    position: Option<Option<String>>,
}

impl Definition {
    fn parse(tokens: &[Token]) -> Result<Definition, String> {
        let name = name_of(tokens.first())?;
        let rest = tokens.get(1..).unwrap_or_default();
        let (column_type, used) = type_of(rest).ok_or_else(|| format!("had a column \"{name}\" of an unknown type"))?;
        let mut definition = Definition {
            name,
            column_type,
            charset: None,
            collation: None,
            not_null: false,
            generated: false,
            primary: false,
            position: None,
        };
        let (mut at, mut depth) = (used, 0_usize);
        while let Some(token) = rest.get(at) {
            let after = &rest[at + 1..];
            let before = at.checked_sub(1).and_then(|b| rest.get(b));
            match token {
                Token::Sign('(') => depth += 1,
                Token::Sign(')') => depth = depth.saturating_sub(1),
                Token::Word(word) if depth == 0 => match word.to_ascii_uppercase().as_str() {
                    "NOT" if starts(after, &["NULL"]) => definition.not_null = true,
                    "AS" | "GENERATED" => definition.generated = true,
                    "PRIMARY" => definition.primary = true,
                    "KEY" => definition.primary |= !before.is_some_and(|t| t.is("UNIQUE")),
                    "CHARSET" => definition.charset = value_of(after),
                    "CHARACTER" if starts(after, &["SET"]) => definition.charset = value_of(&after[1..]),
                    "COLLATE" => definition.collation = value_of(after),
                    "ASCII" => definition.charset = Some("latin1".to_owned()),
                    "UNICODE" => definition.charset = Some("ucs2".to_owned()),
                    "BYTE" => definition.charset = Some("binary".to_owned()),
                    "FIRST" => definition.position = Some(None),
                    "AFTER" => definition.position = Some(Some(name_of(after.first())?)),
                    // What follows is a word of its own.
                    "DEFAULT" | "COMMENT" | "COLUMN_FORMAT" | "STORAGE" => at += 1,
                    _ => {}
                },
                _ => {}
            }
            at += 1;
        }
        Ok(definition)
    }

    /// The column as the server now has it; what the statement does not say stays as it was, and is checked by the
    /// table map.
    fn column(&self, old: Option<&ServerColumn>) -> ServerColumn {
        let collation_set = self.collation.as_ref().and_then(|c| c.split('_').next()).map(str::to_owned);
        let charset = self.charset.clone().or(collation_set).map(|c| c.to_lowercase());
        let collation = self.collation.clone().or_else(|| old.and_then(|o| o.collation.clone()));
        ServerColumn {
            name: self.name.clone(),
            column_type: self.column_type.clone(),
            charset: charset.or_else(|| old.and_then(|o| o.charset.clone())),
            collation_id: old.filter(|o| o.collation == collation).and_then(|o| o.collation_id),
            collation,
            nullable: !self.not_null,
            generated: self.generated,
        }
    }

    /// Whether every value is after the change what it was before.
    fn keeps_values(&self, old: &ServerColumn) -> Result<(), String> {
        let (Ok(before), Ok(after)) = (MySqlType::parse(&old.column_type), MySqlType::parse(&self.column_type)) else {
            return Err(format!("{} to {}", old.column_type, self.column_type));
        };
        let grows = match (&before, &after) {
            (MySqlType::VarChar(a), MySqlType::VarChar(b)) | (MySqlType::VarBinary(a), MySqlType::VarBinary(b)) => {
                a <= b
            }
            (MySqlType::Enum(a), MySqlType::Enum(b)) | (MySqlType::Set(a), MySqlType::Set(b)) => b.starts_with(a),
            (
                MySqlType::Int { bytes: a, unsigned: u, zerofill: false, .. },
                MySqlType::Int { bytes: b, unsigned: v, zerofill: false, .. },
            ) => a <= b && u == v,
            _ => false,
        };
        if before != after && !grows {
            return Err(format!("{before} to {after}"));
        }
        if old.nullable && self.not_null {
            return Err("its NULLs may have become other values".to_owned());
        }
        if self.generated || old.generated {
            return Err("it is computed, perhaps in another way now".to_owned());
        }
        let now = self.column(Some(old));
        if now.charset != old.charset || now.collation != old.collation {
            return Err("to another character set or collation".to_owned());
        }
        Ok(())
    }
}

fn value_of(tokens: &[Token]) -> Option<String> {
    match tokens.iter().find(|t| !t.is_sign('=')) {
        Some(Token::Word(v) | Token::Name(v) | Token::Text(v)) => Some(v.to_lowercase()),
        _ => None,
    }
}

/// A type as `COLUMN_TYPE` has it, and how many words it took.
fn type_of(tokens: &[Token]) -> Option<(String, usize)> {
    let mut at = 0;
    let word = |at: usize| match tokens.get(at) {
        Some(Token::Word(w)) => Some(w.to_ascii_lowercase()),
        _ => None,
    };
    let first = word(0)?;
    at += 1;
    let second = word(1).unwrap_or_default();
    let mut brackets = true;
    let mut name = match (first.as_str(), second.as_str()) {
        ("integer" | "int4", _) => "int".to_owned(),
        ("int1", _) => "tinyint".to_owned(),
        ("int2", _) => "smallint".to_owned(),
        ("int3" | "middleint", _) => "mediumint".to_owned(),
        ("int8", _) => "bigint".to_owned(),
        ("bool" | "boolean", _) => "tinyint(1)".to_owned(),
        ("serial", _) => {
            brackets = false;
            "bigint unsigned".to_owned()
        }
        ("dec" | "numeric" | "fixed", _) => "decimal".to_owned(),
        ("double", "precision") => {
            at += 1;
            "double".to_owned()
        }
        ("float8" | "real", _) => "double".to_owned(),
        ("float4", _) => "float".to_owned(),
        ("national", "char" | "character" | "varchar") => {
            at += 1;
            let varying = second == "varchar" || word(2).as_deref() == Some("varying");
            at += usize::from(word(2).as_deref() == Some("varying"));
            if varying { "varchar".to_owned() } else { "char".to_owned() }
        }
        ("char" | "character" | "nchar", "varying") => {
            at += 1;
            "varchar".to_owned()
        }
        ("character" | "nchar", _) => "char".to_owned(),
        ("nvarchar" | "varcharacter", _) => "varchar".to_owned(),
        ("long", "varchar" | "varbinary") => {
            at += 1;
            if second == "varchar" { "mediumtext".to_owned() } else { "mediumblob".to_owned() }
        }
        ("long", _) => "mediumtext".to_owned(),
        _ => first,
    };
    if brackets && tokens.get(at).is_some_and(|t| t.is_sign('(')) {
        let mut inner = vec![];
        at += 1;
        loop {
            match tokens.get(at)? {
                Token::Sign(')') => break,
                Token::Sign(',') => {}
                Token::Number(n) | Token::Word(n) => inner.push(n.clone()),
                Token::Text(label) => inner.push(format!("'{}'", label.replace('\\', "\\\\").replace('\'', "''"))),
                _ => return None,
            }
            at += 1;
        }
        at += 1;
        // A length of a TEXT or BLOB picks one of them; a width of an integer says nothing, but for tinyint(1).
        let says = match name.as_str() {
            "text" | "blob" => false,
            "smallint" | "mediumint" | "int" | "bigint" => false,
            "tinyint" => inner == ["1"],
            _ => true,
        };
        if says {
            if name == "decimal" && inner.len() == 1 {
                inner.push("0".to_owned());
            }
            name = format!("{name}({})", inner.join(","));
        }
    }
    while let Some(attribute) = word(at).filter(|w| ["unsigned", "signed", "zerofill"].contains(&w.as_str())) {
        if attribute != "signed" {
            name = format!("{name} {attribute}");
        }
        at += 1;
    }
    match name.as_str() {
        "bit" => name = "bit(1)".to_owned(),
        "char" => name = "char(1)".to_owned(),
        "binary" => name = "binary(1)".to_owned(),
        "decimal" => name = "decimal(10,0)".to_owned(),
        _ => {}
    }
    Some((name, at))
}
