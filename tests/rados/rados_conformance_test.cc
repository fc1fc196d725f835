// The conformance suite on real pools: one of size 1, with the OSD class and as a user who may not
// call it, and an erasure-coded one without overwrites, where classes cannot read. Each test has a
// namespace of its own.
#include "common/store/object_compute.h"
#include "tests/common/store/store_conformance.h"
#include "tests/rados/ceph_site.h"

namespace datacloud {
namespace {

enum class Kind { plain, without_class, erasure_coded };

// One connection and one user per kind for the whole program.
struct Pool {
  explicit Pool(Kind kind)
      : name(kind == Kind::erasure_coded ? ceph.erasure_coded_pool() : "datacloud"),
        options(ceph.options(name, "test-*", kind == Kind::without_class ? "rw" : "rwx")) {}
  CephSite ceph;
  std::string name;
  RadosOptions options;
};

template <Kind kind>
class RadosSite final : public SiteUnderTest {
 public:
  RadosSite() : options_(pool().options) {
    options_.nspace = CephSite::fresh_namespace();
    io_ = pool().ceph.open(pool().name, options_.nspace);
    auto formatted = format_rados(options_);
    if (!formatted) throw std::runtime_error(formatted.error().message());
  }
  ~RadosSite() override {
    for (auto it = io_.nobjects_begin(); it != io_.nobjects_end(); ++it) {
      io_.remove(it->get_oid());
    }
  }
  std::unique_ptr<ObjectStore> open() override { return make_rados_store(options_); }
  // First the marker is gone, then it is another cloud's.
  void take_away() override {
    EXPECT_EQ(io_.remove("datacloud-site"), 0);
    if (foreign_) write_marker(test_marker(7));
  }
  void bring_back() override {
    foreign_ = !foreign_;
    write_marker(test_marker());
  }

 private:
  static Pool& pool() {
    static Pool pool(kind);
    return pool;
  }
  void write_marker(const SiteMarker& marker) {
    librados::bufferlist bytes;
    bytes.append(marker.encode());
    EXPECT_EQ(io_.write_full("datacloud-site", bytes), 0);
  }

  RadosOptions options_;
  librados::IoCtx io_;
  bool foreign_ = false;
};

template <Kind kind>
StoreCase make_case(const std::string& name) {
  return {name, [] { return std::make_unique<RadosSite<kind>>(); }};
}

INSTANTIATE_TEST_SUITE_P(, StoreConformance,
                         testing::Values(make_case<Kind::plain>("pool_of_size_1"),
                                         make_case<Kind::without_class>("without_class"),
                                         make_case<Kind::erasure_coded>("erasure_coded_pool")),
                         case_name);

// What the suite cannot see: where the work was done.
class RadosClass : public testing::Test {
 protected:
  template <Kind kind>
  void expect_work_at_site(bool at_site, double raw_bytes_per_byte) {
    RadosSite<kind> site;
    auto store = site.open();
    const auto space = capacity(*store).value();
    EXPECT_EQ(space.class_there, at_site);
    EXPECT_EQ(space.raw_bytes_per_byte, raw_bytes_per_byte);
    const Bytes data = contents_of("one", 100'000);
    const Bytes tags(16 * 25);
    ASSERT_TRUE(put(*store, "one", data, shard_attributes(1, tags)));
    const auto combined = wait_for<CombineReply>([&](auto done) {
      store->combine("one", {{{0, 8}, {16, 8}}, {{1, 1}}}, {}, done);
    });
    ASSERT_TRUE(combined) << combined.error().message();
    EXPECT_EQ(combined.value().at_site, at_site);
    const auto proof = wait_for<AuditProof>([&](auto done) {
      store->prove("one", {{}, 25, 0}, {}, done);
    });
    ASSERT_TRUE(proof) << proof.error().message();
    EXPECT_EQ(proof.value().at_site, at_site);
    Derivation derivation{.source = "one", .source_instance = 1, .instance = 2, .size = 100'000};
    derivation.data.push_back({50, Bytes{0xff}});
    const auto derived =
        wait_for<DeriveReply>([&](auto done) { store->derive("two", derivation, {}, done); });
    ASSERT_TRUE(derived) << derived.error().message();
    if (at_site) {
      EXPECT_EQ(derived.value().bytes_transferred, 1u);
    } else {
      EXPECT_GT(derived.value().bytes_transferred, 200'000u);
    }
    Bytes expected = data;
    expected[50] ^= 0xff;
    EXPECT_TRUE(read_all(*store, "two").value() == expected);
  }
};

TEST_F(RadosClass, WorksWhereItIs) { expect_work_at_site<Kind::plain>(true, 1); }
TEST_F(RadosClass, IsDoneWithoutWhereTheUserMayNotCallIt) {
  expect_work_at_site<Kind::without_class>(false, 1);
}
TEST_F(RadosClass, IsDoneWithoutOnErasureCodedPools) {
  expect_work_at_site<Kind::erasure_coded>(false, 1.5);
}

}  // namespace
}  // namespace datacloud
