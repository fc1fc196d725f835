// The daemon's side of third-party audits: pages of a bundle, refreshes, the standing of findings,
// and the log of audits.
#include <gtest/gtest.h>

#include <random>

#include "common/audit/audit_bundle.h"
#include "common/proto/admin.pb.h"
#include "tests/daemon/service/service_rig.h"

namespace datacloud {
namespace {

class ExportTest : public ServiceTest {
 protected:
  pb::AdminReply ask(Client& client, const pb::AdminRequest& request, int expected_error = 0) {
    pb::Request wrapped;
    wrapped.set_admin(request.SerializeAsString());
    const auto reply = call(client, wrapped);
    EXPECT_EQ(reply.error() != 0, expected_error != 0) << reply.error_text();
    pb::AdminReply admin;
    EXPECT_TRUE(admin.ParseFromString(reply.admin()));
    return admin;
  }

  struct Bundle {
    std::string header;
    std::map<StripeId, std::string> changes;
    pb::AuditBundleEnd end;
    int pages = 0;
  };
  // `known`: what the asker has, told `window` records at a time.
  Bundle export_all(Client& client, const std::map<StripeId, std::string>& known = {},
                    const std::string& base = {}, size_t window = 7) {
    Bundle bundle;
    pb::AuditExportReply page;
    do {
      pb::AdminRequest request;
      auto* export_request = request.mutable_audit_export();
      export_request->set_run(page.run());
      export_request->set_page(page.page() + 1);
      export_request->set_base(base);
      export_request->set_known_through(UINT64_MAX);
      for (auto it = known.lower_bound(page.next()); it != known.end(); ++it) {
        if (export_request->known_size() == static_cast<int>(window)) {
          export_request->set_known_through(std::prev(it)->first);
          break;
        }
        auto* k = export_request->add_known();
        k->set_stripe(it->first);
        k->set_fingerprint(audit_fingerprint(it->second));
      }
      page = ask(client, request).audit_export();
      if (bundle.pages++ == 0) bundle.header = page.header();
      pb::AuditBundlePage changes;
      EXPECT_TRUE(changes.ParseFromString(page.changes()));
      for (const auto& change : changes.changes()) {
        EXPECT_TRUE(bundle.changes.emplace(change.stripe(), change.record()).second);
      }
      signer_ = to_bytes(as_bytes(page.signer()));
      // A page asked for again is the same.
      request.mutable_audit_export()->set_run(page.run());
      request.mutable_audit_export()->set_page(page.page());
      EXPECT_EQ(ask(client, request).audit_export().SerializeAsString(), page.SerializeAsString());
    } while (page.end().empty() && bundle.pages < 1000);
    EXPECT_TRUE(bundle.end.ParseFromString(page.end()));
    return bundle;
  }
  bool sealed(const Bundle& bundle, const std::map<StripeId, std::string>& state) {
    AuditStateDigest digest;
    for (const auto& [id, record] : state) digest.add(id, record);
    return bundle.end.stripes() == state.size() &&
           bundle.end.state() == std::string(as_text(digest.finish())) &&
           audit_bundle_sealed_by(signer_, bundle.header, bundle.end);
  }

  Bytes signer_;
};

TEST_F(ExportTest, ABundleHasEveryStripeAndARefreshWhatHasChanged) {
  auto client = mount(10);
  auto asker = tool();
  const InodeId ino = create(client, "file", true);
  EXPECT_EQ(call(client, lease_request(ino, pb::LEASE_WRITE, true)).error(), 0);
  std::vector<pb::Stripe> stripes;
  for (uint64_t i = 0; i < 40; ++i) stripes.push_back(write_block(client, ino, i));
  const auto whole = export_all(asker);
  ASSERT_EQ(whole.changes.size(), 40u);
  EXPECT_TRUE(sealed(whole, whole.changes));
  for (const auto& stripe : stripes) {
    const auto read = audited_stripe(stripe.id(), whole.changes.at(stripe.id()));
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(read.value().objects[0], object_name({stripe.id(), 0, stripe.shards(0).instance()}));
    EXPECT_EQ(read.value().stripe.shards(1).state(), pb::SHARD_EMPTY);
  }
  pb::AuditBundleHeader header;
  ASSERT_TRUE(header.ParseFromString(whole.header));
  EXPECT_EQ(header.sites_size(), static_cast<int>(kSites));
  EXPECT_TRUE(header.base().empty());

  // Nothing has changed; then three blocks are new and the stripes under them go.
  auto none = export_all(asker, whole.changes, whole.end.state());
  EXPECT_TRUE(none.changes.empty());
  EXPECT_GT(none.pages, 4) << "told a few at a time";
  EXPECT_TRUE(sealed(none, whole.changes));
  for (const uint64_t block : {3, 4, 39}) write_block(client, ino, block);
  EXPECT_EQ(call(client, gc_request()).error(), 0);
  for (const size_t window : {size_t{7}, size_t{10'000}}) {
    const auto refresh = export_all(asker, whole.changes, whole.end.state(), window);
    auto state = whole.changes;
    int gone = 0, added = 0;
    for (const auto& [id, record] : refresh.changes) {
      if (record.empty()) {
        EXPECT_EQ(state.erase(id), 1u);
        ++gone;
      } else {
        state[id] = record;
        ++added;
      }
    }
    EXPECT_EQ(gone, 3);
    EXPECT_EQ(added, 3);
    EXPECT_TRUE(sealed(refresh, state));
  }
}

TEST_F(ExportTest, RequestsOutOfTurnAreRefused) {
  auto asker = tool();
  pb::AdminRequest request;
  auto* page = request.mutable_audit_export();
  page->set_run(77);
  page->set_page(1);
  ask(asker, request, 1);
  page->set_run(0);
  page->set_base("short");
  ask(asker, request, 1);
  page->clear_base();
  page->set_known_through(5);  // not the end: there is a second page
  const auto first = ask(asker, request).audit_export();
  EXPECT_TRUE(first.end().empty());
  page->set_run(first.run());
  page->set_page(3);
  ask(asker, request, 1);
  for (int i = 0; i < 20'001; ++i) page->add_known();
  page->set_page(2);
  ask(asker, request, 1);
  for (int i = 0; i < 10; ++i) {  // later runs push the first one out
    pb::AdminRequest fresh;
    fresh.mutable_audit_export()->set_known_through(UINT64_MAX);
    EXPECT_FALSE(ask(asker, fresh).audit_export().end().empty());
  }
  page->clear_known();
  ask(asker, request, 1);
}

TEST_F(ExportTest, FindingsStandWhileTheRecordIsUnchanged) {
  auto client = mount(10);
  auto asker = tool();
  const InodeId ino = create(client, "file", true);
  EXPECT_EQ(call(client, lease_request(ino, pb::LEASE_WRITE, true)).error(), 0);
  const auto stripe = write_block(client, ino);
  pb::AdminRequest request;
  const auto add = [&](StripeId id, uint32_t column, InstanceId instance) {
    auto* shard = request.mutable_audit_standing()->add_shards();
    shard->set_stripe(id);
    shard->set_column(column);
    shard->set_instance(instance);
  };
  add(stripe.id(), 0, stripe.shards(0).instance());
  add(stripe.id(), 0, stripe.shards(0).instance() + 1);
  add(stripe.id(), 1, 0);  // empty: there is no shard
  add(stripe.id(), 9, 1);
  add(stripe.id() + 1000, 0, 1);
  const auto reply = ask(asker, request).audit_standing();
  EXPECT_THAT(reply.standing(), testing::ElementsAre(true, false, false, false, false));
  EXPECT_EQ(reply.signer().size(), kPublicKeyBytes);
}

TEST_F(ExportTest, AuditsAreLoggedSiteBySite) {
  auto client = mount(10);
  auto asker = tool();
  const InodeId ino = create(client, "file", true);
  EXPECT_EQ(call(client, lease_request(ino, pb::LEASE_WRITE, true)).error(), 0);
  write_block(client, ino);  // the rig's objects carry no tags: corrupt at three sites
  pb::Request request;
  request.mutable_audit();
  auto reply = call(asker, request);
  request.mutable_audit()->set_run(reply.audit().run());
  for (int i = 0; i < 1000 && !reply.audit().done(); ++i) {
    run_for(milliseconds(1));
    reply = call(asker, request);
  }
  ASSERT_TRUE(reply.audit().done());
  for (const bool restarted : {false, true}) {
    if (restarted) {
      restart();
      asker = tool();
    }
    pb::AdminRequest log_request;
    log_request.mutable_audit_log();
    pb::AuditLog log;
    ASSERT_TRUE(log.ParseFromString(ask(asker, log_request).audit_log().log()));
    ASSERT_EQ(log.audits_size(), 1);
    const auto& audit = log.audits(0);
    EXPECT_EQ(audit.kind(), "full");
    EXPECT_EQ(audit.stripes(), 1u);
    EXPECT_GE(audit.ended_ns(), audit.started_ns());
    ASSERT_EQ(audit.sites_size(), 3);
    for (const auto& site : audit.sites()) {
      EXPECT_EQ(site.shards_checked(), 1u);
      EXPECT_EQ(site.corrupt(), 1u);
    }
  }
}

}  // namespace
}  // namespace datacloud
