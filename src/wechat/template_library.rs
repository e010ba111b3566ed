//! `/wxaapi/newtmpl/…`: WeChat's public library of subscribe-message templates, and the account's own
//! choice of it (订阅消息, template management).

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Client, Error, subscribe_message::id_text};

/// A service category of the account.
#[derive(Debug, Deserialize)]
pub struct Category {
    pub id: i64,
    pub name: String,
}

/// A template of the public library.
#[derive(Debug, Deserialize)]
pub struct LibraryTitle {
    pub tid: Value,
    pub title: String,
    /// 2 is one-time, 3 is long-term.
    #[serde(rename = "type")]
    kind: Value,
    #[serde(default, rename = "categoryId")]
    category_id: Value,
}

impl LibraryTitle {
    /// The title's id, which WeChat writes as a number or as text.
    pub fn id(&self) -> String {
        id_text(&self.tid).unwrap_or_default()
    }

    pub fn is_long_term(&self) -> bool {
        id_text(&self.kind).as_deref() == Some("3")
    }

    pub fn category_id(&self) -> Option<String> {
        id_text(&self.category_id)
    }
}

/// A keyword a template of the library may have.
#[derive(Debug, Deserialize)]
pub struct LibraryKeyword {
    pub kid: i64,
    pub name: String,
    #[serde(default)]
    pub example: String,
    /// The keyword type, such as `thing`.
    pub rule: String,
}

#[derive(Deserialize)]
struct Data<T> {
    #[serde(default = "Vec::new")]
    data: Vec<T>,
}

#[derive(Deserialize)]
struct Titles {
    #[serde(default)]
    count: i64,
    #[serde(default)]
    data: Vec<LibraryTitle>,
}

#[derive(Serialize)]
struct AddTemplate<'a> {
    tid: &'a str,
    #[serde(rename = "kidList")]
    kid_list: &'a [i64],
    #[serde(rename = "sceneDesc")]
    scene: &'a str,
}

#[derive(Deserialize)]
struct Added {
    #[serde(rename = "priTmplId")]
    id: String,
}

#[derive(Serialize)]
struct DeleteTemplate<'a> {
    #[serde(rename = "priTmplId")]
    id: &'a str,
}

#[derive(Deserialize)]
struct Done {}

impl Client {
    /// getCategory.
    pub async fn template_categories(&self, token: &SecretString) -> Result<Vec<Category>, Error> {
        let query = [("access_token", token.expose_secret())];
        let answer: Data<Category> = self.get("/wxaapi/newtmpl/getcategory", &query).await?;
        Ok(answer.data)
    }

    /// getPubTemplateTitleList: `limit` at most 30. Gives the titles and how many there are in all.
    pub async fn library_titles(
        &self,
        token: &SecretString,
        category_ids: &str,
        start: u64,
        limit: u64,
    ) -> Result<(Vec<LibraryTitle>, i64), Error> {
        let (start, limit) = (start.to_string(), limit.to_string());
        let query =
            [("access_token", token.expose_secret()), ("ids", category_ids), ("start", &start), ("limit", &limit)];
        let answer: Titles = self.get("/wxaapi/newtmpl/getpubtemplatetitles", &query).await?;
        Ok((answer.data, answer.count))
    }

    /// getPubTemplateKeyWordsById.
    pub async fn library_keywords(&self, token: &SecretString, tid: &str) -> Result<Vec<LibraryKeyword>, Error> {
        let query = [("access_token", token.expose_secret()), ("tid", tid)];
        let answer: Data<LibraryKeyword> = self.get("/wxaapi/newtmpl/getpubtemplatekeywords", &query).await?;
        Ok(answer.data)
    }

    /// addMessageTemplate: two to five keywords in the wanted order, a scene of at most 15 characters.
    /// Gives the new template's id.
    pub async fn add_template(
        &self,
        token: &SecretString,
        tid: &str,
        keyword_ids: &[i64],
        scene: &str,
    ) -> Result<String, Error> {
        let query = [("access_token", token.expose_secret())];
        let body = AddTemplate { tid, kid_list: keyword_ids, scene };
        let answer: Added = self.post("/wxaapi/newtmpl/addtemplate", &query, &body).await?;
        Ok(answer.id)
    }

    /// deleteMessageTemplate.
    pub async fn delete_template(&self, token: &SecretString, template_id: &str) -> Result<(), Error> {
        let query = [("access_token", token.expose_secret())];
        let _: Done = self.post("/wxaapi/newtmpl/deltemplate", &query, &DeleteTemplate { id: template_id }).await?;
        Ok(())
    }
}
