//! Other names of keys.

use serde_json::json;

use super::*;

#[test]
fn a_key_is_used_by_its_alias() {
    let site = Site::new();
    let cloud = site.open();
    let (first, second) = (new_key(&cloud), new_key(&cloud));
    let alias = |action: &str, key: &str| kms(&cloud, action, &[("AliasName", "alias/Books/1_a-b"), ("KeyId", key)]);
    assert_eq!(alias("CreateAlias", &first), Ok(json!({})));
    assert_eq!(refusal(alias("CreateAlias", &second)), code("AliasAlreadyExists", 400));
    for name in ["alias/Books/1_a-b", "acs:kms:cn-test:acme:alias/Books/1_a-b"] {
        assert_eq!(described(&cloud, name)["KeyId"], first);
        let sealed = kms(&cloud, "Encrypt", &[("KeyId", name), ("Plaintext", "c2VjcmV0")]).expect("it is enabled");
        assert_eq!(sealed["KeyId"], first);
    }
    assert_eq!(alias("UpdateAlias", &second), Ok(json!({})));
    assert_eq!(described(&cloud, "alias/Books/1_a-b")["KeyId"], second);
    assert_eq!(refusal(alias("UpdateAlias", "none")), code("Forbidden.KeyNotFound", 404));
    assert_eq!(alias("DeleteAlias", ""), Ok(json!({})));
    assert_eq!(refusal(alias("DeleteAlias", "")), code("Forbidden.AliasNotFound", 404));
    assert_eq!(refusal(alias("UpdateAlias", &first)), code("Forbidden.AliasNotFound", 404));
    assert_eq!(refused(&cloud, "DescribeKey", &[("KeyId", "alias/Books/1_a-b")]), code("Forbidden.AliasNotFound", 404));
}

#[test]
fn an_alias_looks_like_one() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let create = |name: &str| kms(&cloud, "CreateAlias", &[("AliasName", name), ("KeyId", &key)]);
    let long = |len| format!("alias/{}", "a".repeat(len));
    for name in ["books", "alias/", "alias/a b", "alias/书", "alias/acs/ecs", "alias/acs", &long(256)] {
        assert_eq!(refusal(create(name)), code("InvalidParameter", 400), "{name}");
    }
    assert_eq!(refusal(create("")), code("MissingParameter", 400));
    create(&long(255)).expect("it is not too long");
}

#[test]
fn the_alias_of_the_service_key_comes_with_it_and_stays() {
    let site = Site::new();
    let cloud = site.open();
    let service = ("AliasName", "alias/acs/ecs");
    assert_eq!(refused(&cloud, "DescribeKey", &[("KeyId", "alias/acs/ecs")]), code("Forbidden.AliasNotFound", 404));
    assert_eq!(
        refused(&cloud, "Encrypt", &[("KeyId", "alias/acs/ecs"), ("Plaintext", "c2VjcmV0")]),
        code("Forbidden.AliasNotFound", 404)
    );
    let id = service_key(&site);
    let own = new_key(&cloud);
    assert_eq!(described(&cloud, "alias/acs/ecs")["KeyId"], id);
    assert_eq!(refused(&cloud, "DeleteAlias", &[service]), code("Forbidden.NoPermission", 403));
    assert_eq!(refused(&cloud, "UpdateAlias", &[service, ("KeyId", &own)]), code("Forbidden.NoPermission", 403));
    let listed = kms(&cloud, "ListAliasesByKeyId", &[("KeyId", &id)]).expect("one");
    let arn = "acs:kms:cn-test:acme:alias/acs/ecs";
    assert_eq!(listed["Aliases"]["Alias"], json!([{ "AliasName": "alias/acs/ecs", "AliasArn": arn, "KeyId": id }]));
}

#[test]
fn aliases_are_listed_by_name_and_in_pages() {
    let site = Site::new();
    service_key(&site);
    let cloud = site.open();
    let (first, second) = (new_key(&cloud), new_key(&cloud));
    for (name, key) in [("alias/c", &first), ("alias/a", &first), ("alias/b", &second)] {
        kms(&cloud, "CreateAlias", &[("AliasName", name), ("KeyId", key)]).expect("it is free");
    }
    let list = |action: &str, params: &[(&str, &str)]| {
        let answer = kms(&cloud, action, params).expect("it is a list");
        let aliases = answer["Aliases"]["Alias"].as_array().expect("a list");
        aliases.iter().map(|alias| text(&alias["AliasName"])).collect::<Vec<_>>()
    };
    assert_eq!(list("ListAliases", &[]), ["alias/a", "alias/acs/ecs", "alias/b", "alias/c"]);
    assert_eq!(list("ListAliases", &[("PageSize", "3"), ("PageNumber", "2")]), ["alias/c"]);
    assert_eq!(list("ListAliasesByKeyId", &[("KeyId", &first)]), ["alias/a", "alias/c"]);
    assert_eq!(refused(&cloud, "ListAliases", &[("PageSize", "0")]), code("InvalidParameter", 400));
    // When a key is destroyed, its aliases are gone with it.
    site.target().keys.retain(|key| key.id != first);
    assert_eq!(list("ListAliases", &[]), ["alias/acs/ecs", "alias/b"]);
    assert_eq!(refused(&cloud, "DescribeKey", &[("KeyId", "alias/a")]), code("Forbidden.KeyNotFound", 404));
    kms(&cloud, "CreateAlias", &[("AliasName", "alias/a"), ("KeyId", &second)]).expect("the name is free again");
    assert_eq!(list("ListAliasesByKeyId", &[("KeyId", &second)]), ["alias/a", "alias/b"]);
}

#[test]
fn an_account_has_300_aliases() {
    let site = Site::new();
    let cloud = site.open();
    let key = new_key(&cloud);
    let create =
        |number: u32| kms(&cloud, "CreateAlias", &[("AliasName", &format!("alias/{number}")), ("KeyId", &key)]);
    (0..300).for_each(|number| drop(create(number).expect("there is room")));
    assert_eq!(refusal(create(300)), code("Rejected.LimitExceeded", 400));
}
