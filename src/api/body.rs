//! A JSON body whose faults are named by pointer.
//!
//! poem-openapi describes the type; serde reads it, because only serde says which field is at fault.

use poem::{FromRequest, IntoResponse, Request, RequestBody, Response, Result};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    error::ContentTypeError,
    payload::{Json, ParsePayload, Payload},
    registry::{MetaMediaType, MetaRequest, MetaSchemaRef, Registry},
    types::Type,
};
use serde::{Serialize, de::DeserializeOwned};

use super::problem::Failure;
use crate::error::{Code, Error, FieldError};

/// A body in JSON.
pub struct Body<T>(pub T);

impl<T: Type> Payload for Body<T> {
    const CONTENT_TYPE: &'static str = "application/json";

    fn check_content_type(content_type: &str) -> bool {
        Json::<T>::check_content_type(content_type)
    }

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Type + DeserializeOwned> ParsePayload for Body<T> {
    const IS_REQUIRED: bool = true;

    async fn from_request(request: &Request, body: &mut RequestBody) -> Result<Self> {
        let bytes = <Vec<u8> as FromRequest>::from_request(request, body).await?;
        Ok(Self(read(&bytes).map_err(Failure::from)?))
    }
}

impl<'a, T: Type + DeserializeOwned> ApiExtractor<'a> for Body<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        <Self as Payload>::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = vec![MetaMediaType { content_type: Self::CONTENT_TYPE, schema: Self::schema_ref() }];
        Some(MetaRequest { description: None, content, required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _options: ExtractParamOptions<()>,
    ) -> Result<Self> {
        match request.content_type() {
            Some(kind) if Self::check_content_type(kind) => <Self as ParsePayload>::from_request(request, body).await,
            Some(kind) => Err(ContentTypeError::NotSupported { content_type: kind.to_owned() }.into()),
            None => Err(ContentTypeError::ExpectContentType.into()),
        }
    }
}

/// An answer in JSON, written straight from what it is made of. (poem-openapi's `Json` makes a tree of values first.)
pub struct Written<T>(pub T);

impl<T: Type> Payload for Written<T> {
    const CONTENT_TYPE: &'static str = Json::<T>::CONTENT_TYPE;

    fn schema_ref() -> MetaSchemaRef {
        T::schema_ref()
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

impl<T: Serialize + Send> IntoResponse for Written<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => Response::builder().content_type("application/json; charset=utf-8").body(body),
            Err(error) => Failure::from(Error::new(Code::Internal).because(error)).into_response(),
        }
    }
}

/// Reads a part of a body that is JSON already.
pub fn read_value<T: DeserializeOwned>(value: serde_json::Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| misfit(pointer(error.path()), &error.into_inner().to_string()))
}

/// Reads a body; what does not fit is named by its JSON pointer.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    // Nearly all bodies fit, and where it is costs each of its parts.
    serde_json::from_slice(bytes).or_else(|_| read_closely(bytes))
}

fn read_closely<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = pointer(error.path());
        let inner = error.into_inner();
        if inner.is_data() { misfit(path, &inner.to_string()) } else { malformed(&inner) }
    })?;
    reader.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Error {
    Error::new(Code::MalformedJson).detail(format!("{error}."))
}

/// serde names a missing or an unknown field in its text, and the object as its place.
fn misfit(path: String, text: &str) -> Error {
    let text = text.split_once(" at line ").map_or(text, |(text, _)| text);
    let text = &without_value(text);
    let named = ["missing field `", "unknown field `"].iter().find_map(|start| text.strip_prefix(start));
    let pointer = match named.and_then(|rest| rest.split_once('`')) {
        Some((field, _)) if !path.ends_with(&format!("/{field}")) => format!("{path}/{field}"),
        _ => path,
    };
    Error::fields(Code::InvalidRequest, vec![FieldError::new(pointer, text)])
}

/// serde quotes a text that stands in the wrong place, which may be a secret that was put there by mistake.
fn without_value(text: &str) -> String {
    match (text.find("string \""), text.rfind("\", expected ")) {
        (Some(from), Some(to)) if from < to => format!("{}a string{}", &text[..from], &text[to + 1..]),
        _ => text.to_owned(),
    }
}

/// A name as it stands in a pointer (RFC 6901).
pub fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let part = |segment: &Segment| match segment {
        Segment::Seq { index } => format!("/{index}"),
        Segment::Map { key } => format!("/{}", escaped(key)),
        Segment::Enum { variant } => format!("/{variant}"),
        Segment::Unknown => String::new(),
    };
    path.iter().map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its reading is tested")]
    struct Shape {
        id: String,
        fields: BTreeMap<String, String>,
    }

    fn fault(body: &str) -> (Code, String) {
        let error = read::<Shape>(body.as_bytes()).expect_err("refused");
        (error.code, error.fields.first().map(|field| field.pointer.clone()).unwrap_or_default())
    }

    #[test]
    fn a_value_in_the_wrong_place_is_not_repeated() {
        let error = read::<Shape>(br#""mk_secret", expected ""#).expect_err("refused");
        assert!(!error.to_string().contains("mk_secret"), "{error}");
        let error = read::<Shape>(br#"{"id":"1","fields":"mk_\"secret"}"#).expect_err("refused");
        assert_eq!(error.fields[0].reason, "invalid type: a string, expected a map");
    }

    #[test]
    fn each_fault_is_named_by_its_pointer() {
        assert_eq!(fault(r#"{"fields":{}}"#), (Code::InvalidRequest, "/id".into()));
        assert_eq!(fault(r#"{"id":1,"fields":{}}"#), (Code::InvalidRequest, "/id".into()));
        assert_eq!(fault(r#"{"id":"1","fields":{"a/b":1}}"#), (Code::InvalidRequest, "/fields/a~1b".into()));
        assert_eq!(fault(r#"{"id":"1","fields":{},"colour":1}"#), (Code::InvalidRequest, "/colour".into()));
        assert_eq!(fault("[]").0, Code::InvalidRequest);
        assert_eq!(fault(r#"{"id":"#).0, Code::MalformedJson);
        assert_eq!(fault(r#"{"id":"1","fields":{}} x"#).0, Code::MalformedJson);
    }
}
