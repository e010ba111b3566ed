//! A small public template library, in the shape of WeChat's (公共模板库).

use crate::config::{LONG_TERM, ONE_TIME, Template};

/// `id` and `name` of the categories every simulated app has.
pub(super) const CATEGORIES: &[(u64, &str)] = &[(616, "电商平台"), (670, "餐饮服务"), (402, "生活缴费")];

pub(super) struct PublicTemplate {
    pub tid: &'static str,
    pub title: &'static str,
    pub kind: i64,
    pub category: u64,
    pub keywords: &'static [PublicKeyword],
}

pub(super) struct PublicKeyword {
    pub kid: u64,
    pub name: &'static str,
    pub example: &'static str,
    /// The keyword type.
    pub rule: &'static str,
    /// Of an enumerated keyword.
    pub values: &'static [&'static str],
}

const fn keyword(kid: u64, name: &'static str, example: &'static str, rule: &'static str) -> PublicKeyword {
    PublicKeyword { kid, name, example, rule, values: &[] }
}

pub(super) const TEMPLATES: &[PublicTemplate] = &[
    PublicTemplate {
        tid: "855",
        title: "订单发货通知",
        kind: ONE_TIME,
        category: 616,
        keywords: &[
            keyword(1, "订单号", "20260101001", "character_string"),
            keyword(2, "商品名称", "明前龙井茶", "thing"),
            keyword(3, "发货时间", "2026年01月01日 15:01", "time"),
            keyword(4, "快递公司", "顺丰速运", "thing"),
            keyword(5, "订单金额", "¥128.00", "amount"),
            keyword(6, "收货人", "张三", "name"),
            keyword(7, "订单状态", "已发货", "phrase"),
        ],
    },
    PublicTemplate {
        tid: "1128",
        title: "取餐提醒",
        kind: ONE_TIME,
        category: 670,
        keywords: &[
            keyword(1, "取餐号", "A12", "character_string"),
            keyword(2, "门店", "西湖店", "thing"),
            keyword(3, "下单日期", "2026年01月01日", "date"),
            keyword(4, "门店电话", "0571-88888888", "phone_number"),
            keyword(5, "排队人数", "3", "number"),
        ],
    },
    PublicTemplate {
        tid: "4021",
        title: "账单通知",
        kind: LONG_TERM,
        category: 402,
        keywords: &[
            keyword(1, "账单金额", "¥58.60", "amount"),
            keyword(2, "到期日期", "2026年02月01日", "date"),
            PublicKeyword {
                kid: 3,
                name: "账单状态",
                example: "待缴费",
                rule: "enum_string",
                values: &["待缴费", "已缴费", "已逾期"],
            },
            keyword(4, "户名", "张三", "name"),
        ],
    },
];

pub(super) fn find(tid: &str) -> Option<&'static PublicTemplate> {
    TEMPLATES.iter().find(|template| template.tid == tid)
}

impl PublicTemplate {
    /// Those keywords in that order; `None` when one is not in the template.
    pub(super) fn keywords_of(&self, kids: &[u64]) -> Option<Vec<&PublicKeyword>> {
        kids.iter().map(|kid| self.keywords.iter().find(|keyword| keyword.kid == *kid)).collect()
    }

    /// By their names, as service accounts choose them.
    pub(super) fn keywords_named(&self, names: &[&str]) -> Option<Vec<&PublicKeyword>> {
        names.iter().map(|name| self.keywords.iter().find(|keyword| keyword.name == *name)).collect()
    }

    /// The private template an app gets: its keywords are named by type and number.
    pub(super) fn template(&self, id: String, keywords: &[&PublicKeyword]) -> Template {
        let lines = |value: &dyn Fn(&PublicKeyword) -> String| {
            keywords.iter().map(|keyword| format!("{}:{}\n", keyword.name, value(keyword))).collect::<String>()
        };
        let listed = keywords.iter().filter(|keyword| !keyword.values.is_empty());
        Template {
            id,
            title: self.title.to_owned(),
            content: lines(&|keyword| format!("{{{{{}{}.DATA}}}}", keyword.rule, keyword.kid)),
            example: lines(&|keyword| keyword.example.to_owned()),
            kind: self.kind,
            enum_values: listed
                .map(|keyword| {
                    let values = keyword.values.iter().map(|value| (*value).to_owned()).collect();
                    (format!("{}{}", keyword.rule, keyword.kid), values)
                })
                .collect(),
        }
    }
}
