//! Goes through a parsed expression and writes out what is allowed of it.

use minijinja::machinery::ast::{Call, CallArg, Expr, ForLoop, IfCond, Stmt, Test, UnaryOpKind};

use super::{
    super::vocabulary::{COUNTED, FILTERS, PLACE, TESTS},
    operator::written_as,
};

/// Operators, filters and names after each other, which are levels too once they are parsed.
const DEEPEST: usize = 50;
/// A loop in a loop, and no deeper: each level multiplies.
const MOST_LOOPS: usize = 2;

pub(super) type Written = Result<(), String>;

/// Writes out what is allowed.
pub(super) struct Writer<'s> {
    source: &'s str,
    pub(super) out: String,
    depth: usize,
    loops: usize,
}

impl<'s> Writer<'s> {
    pub(super) fn new(source: &'s str) -> Self {
        Self { source, out: String::with_capacity(2 * source.len()), depth: 0, loops: 0 }
    }

    fn statements(&mut self, all: &[Stmt<'_>]) -> Written {
        all.iter().try_for_each(|one| self.statement(one))
    }

    pub(super) fn statement(&mut self, statement: &Stmt<'_>) -> Written {
        self.deeper(|writer| match statement {
            Stmt::Template(template) => writer.statements(&template.children),
            Stmt::EmitRaw(text) => {
                writer.raw(text.raw);
                Ok(())
            }
            Stmt::EmitExpr(emit) => {
                writer.out.push_str("{{ ");
                writer.expression(&emit.expr)?;
                writer.out.push_str(" }}");
                Ok(())
            }
            Stmt::IfCond(choice) => {
                writer.choice("if", choice)?;
                writer.out.push_str("{% endif %}");
                Ok(())
            }
            Stmt::ForLoop(each) => writer.each(each),
            _ => Err("there are the tags if, elif, else, endif, for and endfor, and no others".into()),
        })
    }

    fn choice(&mut self, tag: &str, choice: &IfCond<'_>) -> Written {
        self.out.extend(["{% ", tag, " ("]);
        self.expression(&choice.expr)?;
        self.out.push_str(") %}");
        self.statements(&choice.true_body)?;
        match &choice.false_body[..] {
            [] => Ok(()),
            [Stmt::IfCond(other)] => self.deeper(|writer| writer.choice("elif", other)),
            otherwise => {
                self.out.push_str("{% else %}");
                self.statements(otherwise)
            }
        }
    }

    fn each(&mut self, each: &ForLoop<'_>) -> Written {
        if each.recursive {
            return Err("a loop cannot be recursive".into());
        }
        self.loops += 1;
        if self.loops > MOST_LOOPS {
            return Err(format!("has more than {MOST_LOOPS} loops in each other"));
        }
        self.out.push_str("{% for ");
        self.target(&each.target)?;
        self.out.push_str(" in (");
        self.expression(&each.iter)?;
        self.out.push(')');
        if let Some(filter) = &each.filter_expr {
            self.out.push_str(" if (");
            self.expression(filter)?;
            self.out.push(')');
        }
        self.out.push_str(" %}");
        self.statements(&each.body)?;
        self.loops -= 1;
        if !each.else_body.is_empty() {
            self.out.push_str("{% else %}");
            self.statements(&each.else_body)?;
        }
        self.out.push_str("{% endfor %}");
        Ok(())
    }

    /// The names a loop gives to what it goes through: `item`, or `key, value`.
    fn target(&mut self, target: &Expr<'_>) -> Written {
        match target {
            Expr::Var(name) => {
                self.out.push_str(name.id);
                Ok(())
            }
            Expr::List(names) => self.listed(&names.items, |writer, name| {
                writer.out.push('(');
                writer.deeper(|writer| writer.target(name))?;
                writer.out.push(')');
                Ok(())
            }),
            _ => Err("a loop gives names to what it goes through, such as `for item in data.items`".into()),
        }
    }

    /// Text outside of expressions. What could be taken for the beginning of a tag, or for the line break that is
    /// left out at the end, is written as a constant.
    fn raw(&mut self, text: &str) {
        if text.contains(['{', '\n', '\r']) {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            self.out.extend(["{{ \"", &text, "\" }}"]);
        } else {
            self.out.push_str(text);
        }
    }

    pub(super) fn expression(&mut self, expression: &Expr<'_>) -> Written {
        self.deeper(|writer| writer.part(expression))
    }

    fn part(&mut self, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::Var(name) => {
                self.out.push_str(name.id);
                Ok(())
            }
            Expr::Const(constant) => {
                let at = constant.span();
                let text = self.source.get(at.start_offset as usize..at.end_offset as usize);
                self.out.push_str(text.ok_or("syntax error")?);
                Ok(())
            }
            Expr::GetAttr(attribute) => {
                self.simple(&attribute.expr)?;
                self.out.push('.');
                self.out.push_str(attribute.name);
                Ok(())
            }
            Expr::GetItem(item) => {
                self.simple(&item.expr)?;
                self.out.push('[');
                self.expression(&item.subscript_expr)?;
                self.out.push(']');
                Ok(())
            }
            Expr::Slice(slice) => {
                self.out.push('(');
                self.operand(&slice.expr)?;
                self.out.extend(["|", COUNTED, ")["]);
                for (index, bound) in [&slice.start, &slice.stop, &slice.step].into_iter().enumerate() {
                    if index > 0 {
                        self.out.push(':');
                    }
                    if let Some(bound) = bound {
                        self.operand(bound)?;
                        self.out.extend(["|", PLACE]);
                    }
                }
                self.out.push(']');
                Ok(())
            }
            Expr::UnaryOp(unary) => {
                self.out.push_str(match unary.op {
                    UnaryOpKind::Not => "not ",
                    UnaryOpKind::Neg => "-",
                });
                self.simple(&unary.expr)
            }
            Expr::BinOp(binary) => self.operator(binary),
            Expr::Compare(_) => Err("compare two values at a time: `a < b and b < c`".into()),
            Expr::IfExpr(choice) => {
                self.operand(&choice.true_expr)?;
                self.out.push_str(" if ");
                self.operand(&choice.test_expr)?;
                let Some(otherwise) = &choice.false_expr else { return Ok(()) };
                self.out.push_str(" else ");
                if matches!(otherwise, Expr::IfExpr(_)) { self.expression(otherwise) } else { self.operand(otherwise) }
            }
            Expr::Filter(filter) => {
                let base = filter.expr.as_ref().ok_or("syntax error")?;
                self.filter(filter.name, base, &filter.args)
            }
            Expr::Test(test) => self.test(test),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => {
                self.out.push('[');
                self.listed(&list.items, Self::expression)?;
                self.out.push(']');
                Ok(())
            }
            Expr::Tuple(tuple) => {
                self.out.push('(');
                self.listed(&tuple.items, Self::expression)?;
                self.out.push_str(if tuple.items.len() == 1 { ",)" } else { ")" });
                Ok(())
            }
            Expr::Map(map) => {
                self.out.push('{');
                let pairs: Vec<_> = map.keys.iter().zip(&map.values).collect();
                self.listed(&pairs, |writer, (key, value)| {
                    writer.expression(key)?;
                    writer.out.push_str(": ");
                    writer.expression(value)
                })?;
                self.out.push('}');
                Ok(())
            }
        }
    }

    /// What `.name` and `[0]` may follow.
    fn simple(&mut self, expression: &Expr<'_>) -> Written {
        match expression {
            Expr::Const(_) | Expr::Filter(_) => self.in_brackets(expression),
            _ => self.operand(expression),
        }
    }

    /// What a filter may follow.
    pub(super) fn operand(&mut self, expression: &Expr<'_>) -> Written {
        let bare = match expression {
            Expr::UnaryOp(_) | Expr::IfExpr(_) | Expr::Compare(_) => false,
            // These are written as a filter, or in brackets of their own.
            Expr::BinOp(binary) => written_as(binary.op).is_some(),
            _ => true,
        };
        if bare { self.expression(expression) } else { self.in_brackets(expression) }
    }

    fn in_brackets(&mut self, expression: &Expr<'_>) -> Written {
        self.out.push('(');
        self.expression(expression)?;
        self.out.push(')');
        Ok(())
    }

    fn filter(&mut self, name: &str, base: &Expr<'_>, arguments: &[CallArg<'_>]) -> Written {
        let Some((_, takes_lists)) = FILTERS.iter().find(|(known, _)| *known == name) else {
            let known: Vec<_> = FILTERS.iter().map(|(name, _)| *name).collect();
            return Err(format!("there is no filter `{name}`; there are: {}", known.join(", ")));
        };
        // These could call any filter by its name, or add texts.
        let only_attribute = |allowed: &[&str]| {
            arguments.iter().all(|argument| matches!(argument, CallArg::Kwarg(name, _) if allowed.contains(name)))
        };
        if name == "map" && !only_attribute(&["attribute", "default"]) {
            return Err("map takes the name of a part: `data.items|map(attribute=\"name\")`".into());
        }
        if name == "sum" && !only_attribute(&["attribute"]) {
            return Err("sum takes the name of a part: `data.items|sum(attribute=\"price\")`".into());
        }
        self.operand(base)?;
        if *takes_lists {
            self.out.extend(["|", COUNTED]);
        }
        self.out.extend(["|", name]);
        self.arguments(arguments)
    }

    fn test(&mut self, test: &Test<'_>) -> Written {
        if !TESTS.contains(&test.name) {
            return Err(format!("there is no test `{}`; there are: {}", test.name, TESTS.join(", ")));
        }
        self.out.push('(');
        self.operand(&test.expr)?;
        self.out.extend([" is ", test.name]);
        self.arguments(&test.args)?;
        self.out.push(')');
        Ok(())
    }

    fn call(&mut self, call: &Call<'_>) -> Written {
        match &call.expr {
            Expr::Var(name) if name.id == "range" => self.out.push_str("range"),
            Expr::GetAttr(of) if matches!(&of.expr, Expr::Var(name) if name.id == "loop") => {
                self.out.extend(["loop.", of.name]);
            }
            _ => return Err("there is no function but range; a filter is written value|filter".into()),
        }
        if call.args.is_empty() {
            return Err("a function takes at least one value".into());
        }
        self.arguments(&call.args)
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) -> Written {
        if arguments.is_empty() {
            return Ok(());
        }
        self.out.push('(');
        self.listed(arguments, |writer, argument| match argument {
            CallArg::Pos(value) => writer.expression(value),
            CallArg::Kwarg(name, value) => {
                writer.out.extend([name, "="]);
                writer.expression(value)
            }
            CallArg::PosSplat(_) | CallArg::KwargSplat(_) => {
                Err("`*` and `**` before an argument are not taken".into())
            }
        })?;
        self.out.push(')');
        Ok(())
    }

    pub(super) fn listed<T>(&mut self, all: &[T], mut write: impl FnMut(&mut Self, &T) -> Written) -> Written {
        for (index, one) in all.iter().enumerate() {
            if index > 0 {
                self.out.push_str(", ");
            }
            write(self, one)?;
        }
        Ok(())
    }

    fn deeper(&mut self, write: impl FnOnce(&mut Self) -> Written) -> Written {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("has more than {DEEPEST} levels; make it shorter"));
        }
        write(self)?;
        self.depth -= 1;
        Ok(())
    }
}
