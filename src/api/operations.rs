//! What the document says of a path: which methods it takes, and which parameters they know in the query.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use poem::{
    Request,
    http::{HeaderValue, Method},
};
use serde_json::Value;

use crate::error::{Code, Error, FieldError};

/// A path of the document; `None` stands for what varies, such as an id.
struct Described {
    segments: Vec<Option<String>>,
    /// By method: the names of what may be in the query.
    operations: BTreeMap<String, BTreeSet<String>>,
}

static PATHS: LazyLock<Vec<Described>> = LazyLock::new(|| {
    let document: Value = serde_json::from_str(&super::document()).unwrap_or_default();
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    paths.iter().map(|(path, operations)| described(path, operations)).collect()
});

fn described(path: &str, operations: &Value) -> Described {
    let segment = |segment: &str| (!segment.starts_with('{')).then(|| segment.to_owned());
    let operations = operations.as_object().into_iter().flatten();
    let in_query = |parameter: &Value| {
        let name = parameter["name"].as_str().filter(|_| parameter["in"] == "query");
        name.map(str::to_owned)
    };
    let operation = |(method, operation): (&String, &Value)| {
        let parameters = operation["parameters"].as_array().into_iter().flatten().filter_map(in_query).collect();
        (method.to_uppercase(), parameters)
    };
    Described { segments: segments(path).map(segment).collect(), operations: operations.map(operation).collect() }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

/// The path of the document that this one is; the one that leaves the least open.
fn find(path: &str) -> Option<&'static Described> {
    let path: Vec<_> = segments(path).collect();
    let fits = |described: &&Described| {
        let pairs = described.segments.iter().zip(&path);
        described.segments.len() == path.len()
            && pairs.into_iter().all(|(segment, given)| segment.as_ref().is_none_or(|segment| segment == given))
    };
    PATHS.iter().filter(fits).min_by_key(|described| described.segments.iter().filter(|s| s.is_none()).count())
}

/// The header of a 405 (RFC 9110, 15.5.6). What can be read can be asked for its head, too.
pub fn allow(path: &str) -> Option<HeaderValue> {
    // Pages beside the document can only be read.
    let methods = find(path).map_or_else(|| vec!["GET"], |found| found.operations.keys().map(String::as_str).collect());
    let head = methods.contains(&"GET").then_some("HEAD");
    let methods: Vec<_> = methods.into_iter().chain(head).collect();
    HeaderValue::from_str(&methods.join(", ")).ok()
}

/// Refuses a parameter that the operation does not know: passed over, a misspelt filter would answer with everything.
/// What WeChat adds to the address of a callback is its own affair.
pub fn check_query(request: &Request) -> Result<(), Error> {
    let path = request.uri().path();
    if request.uri().query().is_none_or(str::is_empty) || !path.starts_with("/v1/") {
        return Ok(());
    }
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let Some(known) = find(path).and_then(|found| found.operations.get(method.as_str())) else { return Ok(()) };
    let given = request.params::<Vec<(String, String)>>().unwrap_or_default();
    let takes = match known.len() {
        0 => "this operation takes none".to_owned(),
        _ => format!("this operation takes {}", known.iter().map(String::as_str).collect::<Vec<_>>().join(", ")),
    };
    let unknown = given.into_iter().filter(|(name, _)| !known.contains(name));
    let faults: Vec<_> = unknown.map(|(name, _)| FieldError::new(name, format!("is no parameter: {takes}"))).collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::fields(Code::InvalidRequest, faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_found_with_what_varies_in_it() {
        let allowed = |path: &str| allow(path).expect("a header").to_str().expect("ASCII").to_owned();
        assert_eq!(allowed("/v1/users/usr_1"), "DELETE, GET, HEAD");
        assert_eq!(allowed("/v1/events"), "POST");
        assert_eq!(allowed("/v1/me/"), "DELETE, GET, PATCH, HEAD");
        assert_eq!(allowed("/metrics"), "GET, HEAD");
    }
}
