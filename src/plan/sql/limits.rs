//! Limits of a statement that protect the stack: a chain of operators becomes a tree as deep as the chain is long, and
//! everything that walks the tree, down to its destructor, recurses. (Parentheses are limited by the parser.)

use sqlparser::tokenizer::{Token, TokenWithSpan};
use thalweg_core::{Error, Result};

use crate::sql::cursor::token_is_word;
use crate::sql::tokens::place_of;

/// Operators (or joins, or set operations) in one chain at most.
pub(crate) const OPERATORS_IN_A_CHAIN_MAX: usize = 1000;

/// Words that end an expression, so that the next one begins a chain anew.
const ENDS: &[&str] = &["SELECT", "FROM", "WHERE", "HAVING", "WHEN", "THEN", "ELSE", "ON", "AS", "SET", "BY"];
const OPERATORS: &[&str] = &["AND", "OR", "IS", "LIKE", "IN", "BETWEEN", "COLLATE", "SIMILAR"];
const SET_OPERATORS: &[&str] = &["UNION", "INTERSECT", "EXCEPT", "JOIN"];

#[derive(Default)]
struct Chain {
    operators: usize,
    set_operators: usize,
}

/// Refuses chains that are too long, at the first operator over the limit.
pub(crate) fn check(tokens: &[TokenWithSpan]) -> Result<()> {
    if tokens.len() <= OPERATORS_IN_A_CHAIN_MAX {
        return Ok(());
    }
    let mut open = vec![];
    let mut chain = Chain::default();
    for t in tokens {
        let is = |words: &[&str]| words.iter().any(|w| token_is_word(&t.token, w));
        match &t.token {
            Token::LParen | Token::LBracket => open.push(std::mem::take(&mut chain)),
            Token::RParen | Token::RBracket => chain = open.pop().unwrap_or_default(),
            Token::Comma => chain.operators = 0,
            Token::SemiColon => chain = Chain::default(),
            Token::Word(_) if is(ENDS) => chain.operators = 0,
            Token::Word(_) if is(OPERATORS) => chain.operators += 1,
            Token::Word(_) if is(SET_OPERATORS) => chain.set_operators += 1,
            Token::Word(_) | Token::Number(..) | Token::SingleQuotedString(_) | Token::HexStringLiteral(_) => {}
            Token::Period | Token::RArrow => {}
            _ => chain.operators += 1,
        }
        if chain.operators > OPERATORS_IN_A_CHAIN_MAX || chain.set_operators > OPERATORS_IN_A_CHAIN_MAX {
            return Err(Error::unsupported(format!(
                "more than {OPERATORS_IN_A_CHAIN_MAX} operators stand in one chain"
            ))
            .at(place_of(t.span))
            .note("IN (…) or a join with VALUES (…) says the same in fewer"));
        }
    }
    Ok(())
}
