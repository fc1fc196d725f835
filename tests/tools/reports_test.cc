// The JSON that scripts rely on, from canned replies of the daemon.
#include "tools/reports.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/proto/admin.pb.h"
#include "tools/mounted_path.h"
#include "tools/terminal.h"

namespace datacloud {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

std::vector<std::string> keys_of(const Json& json) {
  std::vector<std::string> keys;
  for (const auto& item : json.items()) keys.push_back(item.key());
  return keys;
}

pb::Cloud cloud() {
  pb::Cloud cloud;
  cloud.set_name("demo");
  cloud.set_uuid("8b0d");
  cloud.mutable_root_policy()->set_code("rs-3-2");
  for (uint32_t i = 1; i <= 3; i++) {
    auto* site = cloud.add_sites();
    site->set_id(i);
    site->set_name(std::string(1, static_cast<char>('a' + i - 1)));
  }
  return cloud;
}

pb::LocateReply located() {
  pb::LocateReply reply;
  reply.mutable_inode()->set_ino(77);
  reply.mutable_inode()->set_size(1234);
  auto* stripe = reply.add_stripes();
  stripe->set_id(uint64_t{1} << 55);
  stripe->set_code("rs-3-2");
  for (uint32_t c = 0; c < 5; c++) {
    auto* shard = stripe->add_shards();
    shard->set_site(c % 3 + 1);
    shard->set_home_site(c % 3 + 1);
    shard->set_instance(100 + c);
    shard->set_bytes(4096 + c);
    reply.add_shard_locations("/sites/" + std::to_string(c));
  }
  stripe->mutable_shards(1)->set_state(pb::SHARD_MISSING);
  stripe->mutable_shards(2)->set_state(pb::SHARD_EMPTY);
  stripe->mutable_shards(2)->set_bytes(0);
  for (uint64_t instance : {uint64_t{103}, uint64_t{9}}) {  // the second one is of the past
    auto* damage = reply.add_damaged();
    damage->set_stripe(stripe->id());
    damage->set_column(instance == 103 ? 3 : 4);
    damage->set_instance(instance);
  }
  return reply;
}

TEST(LocateJson, HasTheAgreedKeys) {
  const Json json = locate_json(cloud(), located(), {}, "/mnt/file");
  EXPECT_THAT(keys_of(json), ElementsAre("path", "inode", "size", "stripes", "blocks_lost",
                                         "blocks_in_metadata", "blocks_patched", "loss"));
  EXPECT_EQ(json["path"], "/mnt/file");
  EXPECT_EQ(json["inode"], 77);
  EXPECT_EQ(json["size"], 1234);
  const Json& stripe = json["stripes"][0];
  EXPECT_THAT(keys_of(stripe), ElementsAre("id", "code", "k", "m", "bytes", "group", "shards"));
  EXPECT_TRUE(stripe["id"].is_number_unsigned());
  EXPECT_EQ(stripe["id"].get<uint64_t>(), uint64_t{1} << 55);
  EXPECT_EQ(stripe["k"], 3);
  EXPECT_EQ(stripe["m"], 2);
  EXPECT_EQ(stripe["bytes"], 4096 + 4097);
  EXPECT_TRUE(stripe["group"].is_null());
  const Json& shard = stripe["shards"][0];
  EXPECT_THAT(keys_of(shard),
              ElementsAre("column", "site", "instance", "location", "bytes", "state"));
  EXPECT_EQ(shard["site"], "a");
  EXPECT_EQ(shard["instance"], 100);
  EXPECT_EQ(shard["location"], "/sites/0");
  std::vector<std::string> states;
  for (const auto& s : stripe["shards"]) states.push_back(s["state"]);
  EXPECT_THAT(states, ElementsAre("present", "missing", "empty", "damaged", "present"));
}

TEST(LocateJson, AnythingFromTheDaemonIsPrintable) {
  pb::LocateReply reply = located();
  reply.mutable_stripes(0)->set_code("no-such-code");
  reply.mutable_shard_locations()->DeleteSubrange(2, 3);
  reply.mutable_stripes(0)->mutable_shards(4)->set_site(99);
  const Json json = locate_json(cloud(), reply, {}, "/bad\xff name");
  EXPECT_TRUE(json["stripes"][0]["k"].is_null());
  EXPECT_EQ(json["stripes"][0]["shards"][3]["location"], "");
  EXPECT_EQ(json["stripes"][0]["shards"][4]["site"], "site 99");
  EXPECT_TRUE(Json::accept(json_text(json)));
  EXPECT_THAT(locate_text(cloud(), reply, {}, "\x1b[2Jx", true, false), Not(HasSubstr("\x1b")));
}

TEST(LocateText, ALargeFileIsALineASite) {
  pb::LocateReply reply = located();
  const pb::Stripe one = reply.stripes(0);
  for (uint64_t id = 1; id <= 25; ++id) {
    *reply.add_stripes() = one;
    reply.mutable_stripes()->rbegin()->set_id(id);
  }
  const auto sites = locate_text(cloud(), reply, {}, "/x", false, false);
  EXPECT_THAT(sites, HasSubstr("26 stripes"));
  EXPECT_THAT(sites, HasSubstr("FOR OTHERS"));
  EXPECT_THAT(sites, Not(HasSubstr("stripe 25")));
  EXPECT_THAT(locate_text(cloud(), reply, {}, "/x", true, false), HasSubstr("stripe 25"));
  EXPECT_THAT(locate_text(cloud(), reply, {}, "/x", true, false),
              Not(HasSubstr("in the metadata")));
  EXPECT_THAT(locate_text(cloud(), reply, {3, 2}, "/x", true, false),
              HasSubstr("3 of its blocks are in the metadata, and changes of 2 more"));
  EXPECT_EQ(locate_json(cloud(), reply, {3, 2}, "/x")["blocks_in_metadata"], 3);
}

TEST(LocateJson, EmptyFile) {
  pb::LocateReply reply;
  reply.mutable_inode()->set_ino(5);
  const Json json = locate_json(cloud(), reply, {}, "/x");
  EXPECT_TRUE(json["stripes"].is_array());
  EXPECT_THAT(json["stripes"], IsEmpty());
}

TEST(TrafficJson, HasEverySiteAndPurpose) {
  pb::TrafficReply reply;
  reply.set_since_ms(1500);
  auto add = [&](uint32_t site, uint32_t purpose, uint64_t read, uint64_t written) {
    auto* row = reply.add_rows();
    row->set_site(site);
    row->set_purpose(purpose);
    row->set_bytes_read(read);
    row->set_bytes_written(written);
    row->set_operations(1);
  };
  add(1, 0, 10, 20);
  add(1, 0, 1, 2);
  add(2, 5, 0, 7);
  add(1, 99, 1000, 1000);  // a purpose of the future
  const Json json = traffic_json(cloud(), reply);
  EXPECT_THAT(keys_of(json), ElementsAre("since_s", "sites", "total_read", "total_written"));
  EXPECT_EQ(json["since_s"], 1.5);
  EXPECT_EQ(json["total_read"], 11);
  EXPECT_EQ(json["total_written"], 29);
  ASSERT_EQ(json["sites"].size(), 3u);
  for (const auto& site : json["sites"]) {
    EXPECT_THAT(keys_of(site), ElementsAre("site", "purposes"));
    EXPECT_THAT(keys_of(site["purposes"]),
                UnorderedElementsAre("client", "audit", "repair", "fold", "journal", "gc"));
    EXPECT_THAT(keys_of(site["purposes"]["gc"]), ElementsAre("read", "written", "operations"));
  }
  EXPECT_EQ(json["sites"][0]["site"], "a");
  EXPECT_EQ(json["sites"][0]["purposes"]["client"]["read"], 11);
  EXPECT_EQ(json["sites"][0]["purposes"]["client"]["operations"], 2);
  EXPECT_EQ(json["sites"][1]["purposes"]["gc"]["written"], 7);
}

pb::StatusReply status() {
  pb::StatusReply reply;
  *reply.mutable_cloud() = cloud();
  reply.set_health("degraded");
  reply.add_problems("site b is away: no marker in /sites/b");
  reply.set_tolerance("any 2 of 5 sites");
  for (uint32_t i = 1; i <= 3; i++) {
    auto* site = reply.add_sites();
    site->set_id(i);
    site->set_name(cloud().sites(static_cast<int>(i) - 1).name());
    site->set_up(i != 2);
    if (i == 2) site->set_reason("no marker in /sites/b");
    site->set_location("/sites/" + site->name());
    site->set_shards(5);
  }
  reply.set_logical_bytes(3000);
  reply.set_live_bytes(2000);
  reply.set_stored_bytes(5000);
  auto* mount = reply.add_mounts();
  mount->mutable_session()->set_id(9);
  mount->mutable_session()->set_mountpoint("/datacloud");
  mount->set_connected(true);
  mount->set_idle_ms(2500);
  mount->mutable_stats()->set_dirty_bytes(65536);
  auto* health = mount->add_health();
  health->set_site(2);
  health->set_reason("timed out");
  pb::StatusDetails details;
  for (const uint64_t stripes : {0, 3, 40}) details.add_stripes_by_remaining(stripes);
  details.set_repair_queued(3);
  details.set_background_paused(true);
  auto* audit = details.add_audits();
  audit->set_site(1);
  audit->set_suspect(true);
  auto* scrub = details.add_scrubs();
  scrub->mutable_walk()->set_site(2);
  scrub->mutable_walk()->set_walks(4);
  scrub->mutable_walk()->set_ended_ns(1'700'000'000'250'000'000);
  scrub->mutable_walk()->set_missing(7);
  scrub->set_walking(true);
  scrub->set_listed_share(0.5);
  details.set_scrub_cycle_ms(60'000);
  reply.set_details(details.SerializeAsString());
  return reply;
}

TEST(StatusJson, HasTheDocumentedShape) {
  const Json json = status_json(status());
  EXPECT_THAT(
      keys_of(json),
      ElementsAre("health", "problems", "cloud", "tolerance", "sites", "capacity", "inodes",
                  "stripes", "shards", "damaged", "stripes_by_remaining", "repair", "audit",
                  "scrub", "groups", "features", "journal", "leader", "trees", "inline_blocks",
                  "patches", "stripes_merged", "background_paused", "background", "queues",
                  "operations", "mounts", "pending_deletions", "sequence", "uptime_s"));
  EXPECT_EQ(json["journal"], Json({{"used", false}}));
  EXPECT_EQ(json["leader"], Json());
  EXPECT_EQ(json["health"], "degraded");
  EXPECT_EQ(json["cloud"]["code"], "rs-3-2");
  EXPECT_EQ(json["stripes_by_remaining"], Json::array({0, 3, 40}));
  EXPECT_EQ(json["repair"]["queued"], 3);
  EXPECT_EQ(json["audit"]["sites"][0]["suspect"], true);
  EXPECT_EQ(json["background_paused"], true);
  EXPECT_EQ(json["scrub"]["cycle_s"], 60);
  EXPECT_EQ(json["scrub"]["sites"][0]["site"], "b");
  EXPECT_EQ(json["scrub"]["sites"][0]["missing"], 7);
  EXPECT_EQ(json["scrub"]["sites"][0]["ended_s"], 1'700'000'000.25);
  EXPECT_EQ(json["capacity"]["overhead"], 1.6667);
  EXPECT_EQ(json["capacity"]["compression"], 0.6667);
  EXPECT_EQ(json["sites"][1]["up"], false);
  EXPECT_EQ(json["sites"][1]["reason"], "no marker in /sites/b");
  EXPECT_EQ(json["mounts"][0]["mountpoint"], "/datacloud");
  EXPECT_EQ(json["mounts"][0]["idle_s"], 2.5);
  EXPECT_EQ(json["mounts"][0]["sites_away"][0]["site"], "b");
}

TEST(JournalReport, TellsWhatItSurvivesAndWhereItIs) {
  pb::JournalStatus status;
  EXPECT_THAT(journal_text(status, false), HasSubstr("journal   off"));
  status.set_used(true);
  status.set_epoch(7);
  status.set_last(120);
  status.set_committed(118);
  status.set_commit_sites(2);
  status.set_losses_survived(1);
  status.set_f(1);
  status.set_data_losses(1);
  for (uint32_t id = 1; id <= 3; ++id) {
    status.add_set(id);
    auto* site = status.add_sites();
    site->set_id(id);
    site->set_name("site" + std::to_string(id));
    site->set_state(id < 3 ? "ok" : "away");
    site->set_acknowledged(id < 3 ? 120 : 90);
    if (id == 3) site->set_reason("its network is down");
  }
  const Json json = journal_json(status);
  EXPECT_EQ(json["sites"][2]["behind"], 30);
  EXPECT_EQ(json["sites"][0]["behind"], 0);
  EXPECT_EQ(json["checkpoint"], Json());
  const std::string text = journal_text(status, false);
  EXPECT_THAT(text,
              HasSubstr("at 3 sites: a change is durable at 2, and survives the loss of any 1"));
  EXPECT_THAT(text, HasSubstr("margin    0 more sites may go away"));
  EXPECT_THAT(text, HasSubstr("its network is down"));
  EXPECT_THAT(text, HasSubstr("audited   not yet"));
  status.set_margin(-1);
  EXPECT_THAT(journal_text(status, false), HasSubstr("nothing becomes durable"));
  auto& audit = *status.mutable_audit();
  audit.set_finished_ns(1'700'000'000'000'000'000);
  audit.set_entries(360);
  audit.set_columns(15);
  audit.set_findings(3);
  audit.set_repaired(2);
  audit.set_unrepaired(1);
  audit.add_problems("the journal at site site2 is wrong: entry 7 is not there");
  EXPECT_THAT(journal_text(status, false), HasSubstr("360 entries and 15 columns of checkpoints"));
  EXPECT_THAT(journal_text(status, false), HasSubstr("3 wrong so far, 2 repaired"));
  EXPECT_THAT(journal_text(status, false), HasSubstr("entry 7 is not there"));
  const Json audited = journal_json(status)["audit"];
  EXPECT_THAT(keys_of(audited),
              ElementsAre("running", "finished_s", "entries", "columns", "passed_over", "findings",
                          "repaired", "unrepaired", "problems"));
  EXPECT_EQ(audited["problems"][0], "the journal at site site2 is wrong: entry 7 is not there");
  // Two sites of data that survive the loss of two: witnesses are missing.
  status.set_data_losses(2);
  EXPECT_THAT(journal_text(status, false),
              HasSubstr("files survive the loss of 2 sites, the journal only that of 1"));
}

TEST(TopText, RatesComeFromTheDifference) {
  auto before = status(), after = status();
  pb::StatusDetails details;
  auto* traffic = details.add_mount_traffic();
  traffic->set_session(9);
  traffic->set_bytes_read(1000);
  auto* operation = details.add_operations();
  operation->set_name("lookup");
  operation->set_count(10);
  before.set_details(details.SerializeAsString());
  details.mutable_mount_traffic(0)->set_bytes_read(3000);
  details.mutable_operations(0)->set_count(30);
  auto* queue = details.add_queues();
  queue->set_name("repair");
  queue->set_waiting(60);
  queue->set_per_second(2);
  queue->set_expected_s(30);
  after.set_details(details.SerializeAsString());
  after.mutable_mounts(0)->mutable_stats()->set_operations(8);
  const Json json = top_json(before, after, 2);
  EXPECT_EQ(json["mounts"][0]["bytes_read_per_second"], 1000);
  EXPECT_EQ(json["mounts"][0]["operations_per_second"], 4);
  EXPECT_EQ(json["requests_per_second"]["lookup"], 10);
  EXPECT_EQ(json["queues"][0]["expected_s"], 30);
  const std::string text = top_text(before, after, 2, false);
  EXPECT_THAT(text, HasSubstr("60 wait, 2.0/s, done in 30 s"));
  EXPECT_THAT(text, HasSubstr("lookup"));
}

TEST(StatusJson, EmptyCloud) {
  const Json json = status_json(pb::StatusReply());
  EXPECT_TRUE(json["capacity"]["overhead"].is_null());
  EXPECT_TRUE(json["mounts"].is_array());
  EXPECT_TRUE(json["sites"].is_array());
  EXPECT_TRUE(Json::accept(json_text(json)));
}

TEST(StatusText, SaysWhatIsWrongAndColoursOnlyWhenAsked) {
  const std::string plain = status_text(status(), false);
  EXPECT_THAT(plain, HasSubstr("site b is away"));
  EXPECT_THAT(plain, HasSubstr("any 2 of 5 sites"));
  EXPECT_THAT(plain, HasSubstr("1.67 bytes per byte"));
  EXPECT_THAT(plain, Not(HasSubstr("\x1b")));
  EXPECT_THAT(status_text(status(), true), HasSubstr("\x1b["));
}

TEST(Terminal, Units) {
  EXPECT_EQ(human_bytes(0), "0 B");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(human_duration(59'999), "59 s");
  EXPECT_EQ(human_duration(90'000), "1 min 30 s");
  EXPECT_EQ(human_duration(90'000'000), "1 d 1 h");
}

TEST(Terminal, TableAligns) {
  Table table({{"NAME"}, {"N", Table::Align::right}});
  table.add({"a\xc3\xa4", uint64_t{5}});
  table.add({"longer", uint64_t{123}});
  EXPECT_EQ(table.text(false),
            "NAME      N\na\xc3\xa4"
            "        5\nlonger  123\n");
}

TEST(MountedPath, FindsOurMountsOnly) {
  const char* text =
      "36 35 98:0 / / rw,noatime - ext4 /dev/root rw\n"
      "40 36 0:61 / /datacloud rw,nosuid shared:5 master:1 - fuse.datacloud demo rw,user_id=0\n"
      "41 36 0:62 / /with\\040space rw - fuse.sshfs host rw\n"
      "garbage\n"
      "42 36 0:63 / /other rw - fuse.datacloud demo2 rw\n";
  EXPECT_THAT(datacloud_devices(parse_mount_table(text)), UnorderedElementsAre("0:61", "0:63"));
  EXPECT_THAT(datacloud_devices({}), IsEmpty());
  auto here = mounted_inode("/proc/self/status");
  ASSERT_TRUE(here);
  EXPECT_FALSE(here.value().has_value());
  EXPECT_FALSE(mounted_inode("/no/such/path").value().has_value());
}

}  // namespace
}  // namespace datacloud
