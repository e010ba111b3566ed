//! Operators: those on texts, and comparisons, are written as filters and tests that look at what they get.

use minijinja::machinery::ast::{BinOp, BinOpKind, Expr};

use super::{
    super::vocabulary::{CONCAT, NUMBER},
    writer::{Writer, Written},
};

const EQUALITY: u8 = 0;
/// From here on operators take numbers.
const SUMS: u8 = 3;

impl Writer<'_> {
    pub(super) fn operator(&mut self, binary: &BinOp<'_>) -> Written {
        match written_as(binary.op) {
            Some(As::Concat) => return self.concat(binary),
            Some(As::Test(name)) => {
                self.out.push('(');
                self.operand(&binary.left)?;
                self.out.extend([" is ", name, "("]);
                self.expression(&binary.right)?;
                self.out.push_str("))");
                return Ok(());
            }
            None => {}
        }
        self.side(&binary.left, binary.op, true)?;
        self.out.push_str(symbol(binary.op));
        self.side(&binary.right, binary.op, false)
    }

    /// One side of an operator that MiniJinja computes.
    fn side(&mut self, expression: &Expr<'_>, of: BinOpKind, left: bool) -> Written {
        if let Expr::BinOp(inner) = expression
            && left
            && written_as(inner.op).is_none()
            && strength(inner.op) == strength(of)
            && strength(of) > EQUALITY
        {
            // Operators of one strength are computed from the left.
            return self.expression(expression);
        }
        let numbers = strength(of) >= SUMS;
        let is_number = match expression {
            Expr::Const(constant) => constant.value.is_number(),
            Expr::List(_) | Expr::Tuple(_) | Expr::Map(_) => false,
            _ => true,
        };
        if numbers && !is_number {
            return Err(format!("`{}` takes numbers; texts are joined by `~`", symbol(of).trim()));
        }
        self.operand(expression)?;
        if numbers {
            self.out.extend(["|", NUMBER]);
        }
        Ok(())
    }

    /// `a ~ b ~ c` in one call, so that each text is written once.
    fn concat(&mut self, binary: &BinOp<'_>) -> Written {
        let (mut first, mut others) = (&binary.left, vec![&binary.right]);
        while let Expr::BinOp(inner) = first
            && matches!(inner.op, BinOpKind::Concat)
        {
            others.push(&inner.right);
            first = &inner.left;
        }
        others.reverse();
        self.operand(first)?;
        self.out.extend(["|", CONCAT, "("]);
        self.listed(&others, |writer, other| writer.expression(other))?;
        self.out.push(')');
        Ok(())
    }
}

/// An operator that is written as something else.
pub(super) enum As {
    Concat,
    Test(&'static str),
}

pub(super) fn written_as(operator: BinOpKind) -> Option<As> {
    Some(match operator {
        BinOpKind::Concat => As::Concat,
        BinOpKind::Lt => As::Test("lt"),
        BinOpKind::Lte => As::Test("le"),
        BinOpKind::Gt => As::Test("gt"),
        BinOpKind::Gte => As::Test("ge"),
        BinOpKind::In => As::Test("in"),
        _ => return None,
    })
}

fn symbol(operator: BinOpKind) -> &'static str {
    match operator {
        BinOpKind::ScOr => " or ",
        BinOpKind::ScAnd => " and ",
        BinOpKind::Ne => " != ",
        BinOpKind::Add => " + ",
        BinOpKind::Sub => " - ",
        BinOpKind::Mul => " * ",
        BinOpKind::Div => " / ",
        BinOpKind::FloorDiv => " // ",
        BinOpKind::Rem => " % ",
        BinOpKind::Pow => " ** ",
        _ => " == ",
    }
}

fn strength(operator: BinOpKind) -> u8 {
    match operator {
        BinOpKind::ScOr => 1,
        BinOpKind::ScAnd => 2,
        BinOpKind::Add | BinOpKind::Sub => SUMS,
        BinOpKind::Mul | BinOpKind::Div | BinOpKind::FloorDiv | BinOpKind::Rem => 4,
        BinOpKind::Pow => 5,
        _ => EQUALITY,
    }
}
