//! Tags of disks and other things; regions and zones.

use super::*;
use crate::cloud::crash_tests::new_disk;
use crate::cloud::rows::InstanceState;
use crate::cloud::testing::{REGION, Site, ZONE, new_instance};
use serde_json::{Value, json};

fn tags_of(cloud: &Cloud, disk: &str) -> Vec<(String, String)> {
    disk_row(cloud, disk).tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

fn pairs(tags: &[(&str, &str)]) -> Vec<(String, String)> {
    tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn a_disk_has_the_tags_that_it_was_given() {
    let cloud = Site::new().open();
    let disk = new_disk(&cloud, &[("Tag.1.Key", "a"), ("Tag.1.Value", "1")]);
    let on = [("ResourceType", "disk"), ("ResourceId", disk.as_str())];
    let with = |more: &[(&'static str, &'static str)]| [&on[..], more].concat();
    let two = with(&[("Tag.1.Key", "a"), ("Tag.1.Value", "2"), ("Tag.2.Key", "b")]);
    ask(&cloud, "AddTags", &two).expect("they are added");
    assert_eq!(tags_of(&cloud, &disk), pairs(&[("a", "2"), ("b", "")]));
    ask(&cloud, "RemoveTags", &with(&[("Tag.1.Key", "a"), ("Tag.1.Value", "1")])).expect("nothing has that value");
    assert_eq!(tags_of(&cloud, &disk).len(), 2);
    ask(&cloud, "RemoveTags", &with(&[("Tag.1.Key", "a")])).expect("it is removed");
    assert_eq!(tags_of(&cloud, &disk), pairs(&[("b", "")]));
    let list = ask(&cloud, "DescribeTags", &[("ResourceType", "disk")]).expect("a list");
    assert_eq!(list["Tags"], json!({ "Tag": [{ "TagKey": "b", "TagValue": "" }] }));
    assert_eq!((&list["TotalCount"], &list["PageNumber"], &list["PageSize"]), (&json!(1), &json!(1), &json!(50)));
}

#[test]
fn several_things_are_tagged_at_once_or_none() {
    let cloud = Site::new().open();
    let [one, other] = [(); 2].map(|()| new_disk(&cloud, &[]));
    let kind = ("ResourceType", "disk");
    let (first, second) = (("ResourceId.1", one.as_str()), ("ResourceId.2", other.as_str()));
    let tag = ("Tag.1.Key", "k");
    refused(&cloud, "TagResources", &[kind, first, ("ResourceId.2", "d-none"), tag], "InvalidResourceId.NotFound", 404);
    assert!(tags_of(&cloud, &one).is_empty());
    ask(&cloud, "TagResources", &[kind, first, second, tag, ("Tag.2.Key", "l")]).expect("they are tagged");
    let list = ask(&cloud, "ListTagResources", &[kind, tag]).expect("a list");
    let found = list["TagResources"]["TagResource"].as_array().expect("a list");
    assert_eq!(found.len(), 2);
    assert_eq!(list["NextToken"], "");
    let item = json!({ "ResourceId": one, "ResourceType": "disk", "TagKey": "k", "TagValue": "" });
    assert!(found.contains(&item), "{found:?}");
    ask(&cloud, "UntagResources", &[kind, first, ("TagKey.1", "k")]).expect("it is untagged");
    ask(&cloud, "UntagResources", &[kind, second, ("All", "true")]).expect("it is untagged");
    assert_eq!((tags_of(&cloud, &one), tags_of(&cloud, &other)), (pairs(&[("l", "")]), vec![]));
}

#[test]
fn snapshots_and_instances_have_tags_too() {
    let cloud = Site::new().open();
    let instance = new_instance(&cloud, "i-1", InstanceState::Running);
    let snapshot = new_snapshot(&cloud, &new_disk(&cloud, &[]), "s-1");
    for (kind, id) in [("instance", &instance), ("snapshot", &snapshot)] {
        let on = [("ResourceType", kind), ("ResourceId", id), ("Tag.1.Key", "k"), ("Tag.1.Value", kind)];
        ask(&cloud, "AddTags", &on).expect("it is added");
        let list = ask(&cloud, "DescribeTags", &on[..2]).expect("a list");
        assert_eq!(list["Tags"]["Tag"][0]["TagValue"], kind);
    }
}

#[test]
fn the_pages_of_tags_say_what_is_refused() {
    let cloud = Site::new().open();
    let disk = new_disk(&cloud, &[]);
    let (kind, on, tag) = (("ResourceType", "disk"), ("ResourceId", disk.as_str()), ("Tag.1.Key", "k"));
    let many: Vec<(String, String)> = (1..=20).map(|n| (format!("Tag.{n}.Key"), format!("k{n}"))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let ids: Vec<String> = (1..=51).map(|n| format!("ResourceId.{n}")).collect();
    let ids: Vec<(&str, &str)> = ids.iter().map(|name| (name.as_str(), disk.as_str())).collect();
    ask(&cloud, "AddTags", &[&[kind, on], &many[..]].concat()).expect("twenty are taken");
    for (action, params, code, status) in [
        ("AddTags", &[on, tag][..], "MissingParameter", 400),
        ("AddTags", &[kind, tag], "MissingParameter", 400),
        ("AddTags", &[kind, on], "MissingParameter", 400),
        ("AddTags", &[("RegionId", "elsewhere"), kind, on, tag], "InvalidRegionId.NotFound", 404),
        ("AddTags", &[("ResourceType", "cat"), on, tag], "InvalidResourceType.NotFound", 404),
        ("AddTags", &[kind, ("ResourceId", "d-none"), tag], "InvalidResourceId.NotFound", 404),
        ("AddTags", &[kind, on, ("Tag.1.Value", "v")], "InvalidTag.Mismatch", 400),
        ("AddTags", &[kind, on, ("Tag.1.Key", "aliyun")], "InvalidTagKey.Malformed", 400),
        ("AddTags", &[kind, on, tag], "OperationDenied.QuotaExceed", 400),
        ("RemoveTags", &[kind, on], "MissingParameter", 400),
        ("TagResources", &[("ResourceId.1", &disk), tag], "MissingParameter.ResourceType", 404),
        ("TagResources", &[kind, ("ResourceId.1", &disk)], "MissingParameter.Tags", 404),
        ("TagResources", &[kind, tag], "MissingParameter", 400),
        ("TagResources", &[&[kind, tag], &ids[..]].concat(), "NumberExceed.ResourceIds", 400),
        ("UntagResources", &[kind, ("ResourceId.1", &disk)], "MissingParameter.Tags", 404),
        ("ListTagResources", &[kind], "MissingParameter.Tags", 404),
        ("DescribeTags", &[("ResourceType", "cat")], "InvalidResourceType.NotFound", 404),
    ] {
        refused(&cloud, action, params, code, status);
    }
    assert_eq!(tags_of(&cloud, &disk).len(), 20);
}

#[test]
fn there_is_one_region() {
    let cloud = Site::new().open();
    let list = ask(&cloud, "DescribeRegions", &[]).expect("a list");
    assert_eq!(list["Regions"]["Region"].as_array().map(Vec::len), Some(1));
    assert_eq!(list["Regions"]["Region"][0]["RegionId"], REGION);
    refused(&cloud, "DescribeRegions", &[("AcceptLanguage", "la")], "InvalidAcceptLanguage.NotFound", 404);
}

#[test]
fn zones_are_those_of_the_configuration() {
    let cloud = Site::new().open();
    let list = ask(&cloud, "DescribeZones", &[("RegionId", REGION)]).expect("a list");
    let zones = list["Zones"]["Zone"].as_array().expect("a list");
    let names: Vec<&Value> = zones.iter().map(|zone| &zone["ZoneId"]).collect();
    assert_eq!(names, [&json!(ZONE), &json!("zone-b")]);
    let categories = json!({ "DiskCategories": ["cloud", "cloud_efficiency", "cloud_ssd"] });
    assert_eq!(zones[0]["AvailableDiskCategories"], categories);
    assert_eq!(zones[0]["AvailableResourceCreation"], json!({ "ResourceTypes": ["Instance", "Disk"] }));
    for (name, value, code, status) in [
        ("RegionId", "elsewhere", "InvalidRegionId.NotFound", 404),
        ("InstanceChargeType", "Free", "InvalidInstanceChargeType.NotFound", 404),
        ("SpotStrategy", "x", "InvalidSpotStrategy", 400),
        ("AcceptLanguage", "la", "InvalidAcceptLanguage.NotFound", 404),
    ] {
        refused(&cloud, "DescribeZones", &[(name, value)], code, status);
    }
}
