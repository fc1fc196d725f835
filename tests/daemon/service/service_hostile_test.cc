// Requests full of garbage: an error or an answer, never a crash, never a record that breaks.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include "common/proto/admin.pb.h"
#include "daemon/metadata/record_keys.h"
#include "tests/daemon/service/service_rig.h"
#include "tests/support/seeded.h"

namespace datacloud {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Fills messages with values that are odd, and often enough nearly right.
class Mutator {
 public:
  explicit Mutator(Seeded& random) : random_(random) {}

  pb::Request request() {
    pb::Request request;
    const auto* op = pb::Request::descriptor()->FindOneofByName("op");
    const auto* field = op->field(static_cast<int>(random_.number(0, op->field_count() - 1)));
    if (field->name() == "admin") {  // a message inside
      pb::AdminRequest admin;
      const auto* inner = pb::AdminRequest::descriptor()->FindOneofByName("op");
      fill(*admin.GetReflection()->MutableMessage(
               &admin, inner->field(static_cast<int>(random_.number(0, inner->field_count() - 1)))),
           1);
      request.set_admin(random_.number(0, 9) == 0 ? bytes() : admin.SerializeAsString());
      return request;
    }
    fill(*request.GetReflection()->MutableMessage(&request, field), 0);
    return request;
  }
  void remember(uint64_t id) { ids_.push_back(id); }

  uint64_t number() {
    switch (random_.number(0, 7)) {
      case 0:
        return random_.number(0, UINT64_MAX);
      case 1:
        return UINT64_MAX - random_.number(0, 2);
      case 2:
        return uint64_t{1} << random_.number(0, 63);
      case 3:
      case 4:
        return ids_.empty() ? 1 : ids_[random_.number(0, ids_.size() - 1)];
      default:
        return random_.number(0, 6);
    }
  }

 private:
  std::string bytes() {
    static const char* kNames[] = {"f",  "g",   "d",      "",       ".",
                                   "..", "a/b", "user.x", "rs-3-2", "rs-0-9"};
    if (random_.number(0, 3)) return kNames[random_.number(0, std::size(kNames) - 1)];
    const Bytes raw = random_.bytes(random_.number(0, 5000));
    return {raw.begin(), raw.end()};
  }

  void fill(Message& message, int depth) {
    const auto* descriptor = message.GetDescriptor();
    for (int i = 0; i < descriptor->field_count(); ++i) {
      const auto* field = descriptor->field(i);
      if (random_.number(0, 9) == 0) continue;
      const int count = field->is_repeated() ? static_cast<int>(random_.number(0, 5)) : 1;
      for (int n = 0; n < count; ++n) set(message, field, depth);
    }
  }

  void set(Message& message, const FieldDescriptor* field, int depth) {
    const auto* r = message.GetReflection();
    const bool many = field->is_repeated();
    const uint64_t n = number();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_UINT64:
        return many ? r->AddUInt64(&message, field, n) : r->SetUInt64(&message, field, n);
      case FieldDescriptor::CPPTYPE_INT64:
        return r->SetInt64(&message, field, static_cast<int64_t>(n));
      case FieldDescriptor::CPPTYPE_UINT32:
        return many ? r->AddUInt32(&message, field, static_cast<uint32_t>(n))
                    : r->SetUInt32(&message, field, static_cast<uint32_t>(n));
      case FieldDescriptor::CPPTYPE_BOOL:
        return r->SetBool(&message, field, n % 2);
      case FieldDescriptor::CPPTYPE_ENUM:
        return r->SetEnumValue(&message, field, static_cast<int>(n % 2 ? n : n % 3));
      case FieldDescriptor::CPPTYPE_STRING:
        if (field->type() == FieldDescriptor::TYPE_STRING) {
          const char* text = n % 2 ? "rs-3-2" : "x";
          return many ? r->AddString(&message, field, text) : r->SetString(&message, field, text);
        }
        return many ? r->AddString(&message, field, bytes())
                    : r->SetString(&message, field, bytes());
      case FieldDescriptor::CPPTYPE_MESSAGE:
        if (depth < 4) {
          fill(*(many ? r->AddMessage(&message, field) : r->MutableMessage(&message, field)),
               depth + 1);
        }
        return;
      default:
        return;
    }
  }

  Seeded& random_;
  std::vector<uint64_t> ids_;
};

class HostileTest : public ServiceTest {};

TEST_F(HostileTest, EveryMutationIsAnsweredAndTheStoreStaysSound) {
  Seeded random;
  Mutator mutator(random);
  Client a = mount(11), b = mount(12), t = tool();
  for (uint64_t ino = 1; ino < 8; ++ino) mutator.remember(ino);
  const InodeId file = create(a, "f");
  call(a, create_request("d", kRootInode, S_IFDIR | 0755));
  write_block(a, file);
  for (const IdKind kind : {IdKind::stripe, IdKind::instance, IdKind::version}) {
    mutator.remember(grant(a, kind, 1000));
  }
  size_t succeeded = 0, refused = 0;
  for (int i = 0; i < 2500; ++i) {
    Client& client = i % 5 ? a : b;
    auto request = mutator.request();
    if (request.has_goodbye() || request.has_gc()) continue;
    const bool hello = request.has_hello();
    const uint64_t id = send(client, std::move(request));
    while (loop_->run_one()) {
    }
    for (Client* c : {&a, &b}) {
      while (!c->connection->recalls.empty()) recall(*c);
    }
    ASSERT_TRUE(until([&] { return answered(client, id); })) << "hello " << hello;
    for (const auto& reply : client.connection->replies) {
      if (reply.id() == id) ++(reply.error() == 0 ? succeeded : refused);
    }
    a.connection->replies.clear();
    b.connection->replies.clear();
  }
  EXPECT_GT(succeeded, 100u);
  EXPECT_GT(refused, 100u);
  // What was there is there, and the service still works.
  pb::Request status;
  status.mutable_status();
  EXPECT_EQ(call(t, status).error(), 0);
  EXPECT_EQ(call(t, gc_request()).error(), 0);
  pb::Request release;  // nobody answers recalls from here on
  release.mutable_release()->add_leases()->set_ino(kRootInode);
  call(b, release);
  const InodeId fresh = create(a, "a name nobody guesses");
  write_block(a, fresh);
  expect_sound();
}

// Commits that are right but for one field.
TEST_F(HostileTest, NearlyRightCommitsNeverBreakTheMap) {
  Seeded random;
  Mutator mutator(random);
  Client a = mount(11);
  const InodeId file = create(a, "f");
  size_t taken = 0;
  for (int i = 0; i < 600; ++i) {
    const uint64_t block = random.number(0, 20);
    auto request =
        commit_request(put_stripe(grant(a, IdKind::stripe, 1), grant(a, IdKind::instance, 5)), file,
                       grant(a, IdKind::version, 1), block);
    auto& commit = *request.mutable_commit();
    auto& stripe = *commit.mutable_stripes(0);
    auto& run = *commit.mutable_updates(0)->mutable_runs(0);
    auto& shard = *stripe.mutable_shards(static_cast<int>(random.number(0, 4)));
    const uint64_t n = mutator.number();
    switch (random.number(0, 13)) {
      case 0:
        stripe.set_id(n);
        break;
      case 1:
        shard.set_instance(n);
        break;
      case 2:
        shard.set_bytes(static_cast<uint32_t>(n));
        break;
      case 3:
        shard.set_site(static_cast<uint32_t>(n));
        break;
      case 4:
        shard.set_state(static_cast<pb::ShardState>(n));
        break;
      case 5:
        stripe.set_slot_offset(0, static_cast<uint32_t>(n));
        break;
      case 6:
        stripe.set_slot_length(0, static_cast<uint32_t>(n));
        break;
      case 7:
        stripe.set_parity_bytes(static_cast<uint32_t>(n));
        break;
      case 8:
        run.set_first_block(n);
        break;
      case 9:
        run.set_count(static_cast<uint32_t>(n));
        break;
      case 10:
        run.set_version(n);
        break;
      case 11:
        *commit.mutable_updates(0)->add_runs() = run;
        break;
      case 12:
        commit.mutable_updates(0)->set_truncate_to(n);
        break;
      default:
        break;
    }
    taken += call(a, request).error() == 0;
    a.connection->replies.clear();
    if (i % 100 == 0) expect_sound();
  }
  EXPECT_GT(taken, 30u);
  EXPECT_LT(taken, 600u);
}

TEST_F(HostileTest, BoundsOfListsAndSizes) {
  Client a = mount(11);
  const InodeId file = create(a, "f");
  pb::Request request;
  auto* update = request.mutable_commit()->add_updates();
  update->set_ino(file);
  update->set_grow_to((uint64_t{1} << 60) + 1);
  EXPECT_EQ(call(a, request).error(), EFBIG);
  request.Clear();
  for (int i = 0; i < 5000; ++i) request.mutable_damage()->add_found();
  EXPECT_EQ(call(a, request).error(), -static_cast<int>(Errc::invalid));
  request.Clear();
  request = create_request("l", kRootInode, S_IFLNK | 0777);
  request.mutable_create()->set_symlink_target(std::string(4096, 'x'));
  EXPECT_NE(call(a, request).error(), 0);
  request.mutable_create()->set_symlink_target("caf\xe9");  // not UTF-8
  EXPECT_EQ(call(a, request).error(), 0);
  EXPECT_EQ(call(a, lookup_request("l")).attr().inode().symlink_target(), "caf\xe9");
  EXPECT_EQ(call(a, create_request(std::string(256, 'n'))).error(), ENAMETOOLONG);
  EXPECT_EQ(call(a, create_request("a/b")).error(), EINVAL);
}

TEST_F(HostileTest, WritersDropSetUserIdAndNothingElse) {
  Client a = mount(11);
  auto request = create_request("f", kRootInode, S_IFREG | 06755);
  const InodeId file = call(a, request).attr().inode().ino();
  request.Clear();
  auto* update = request.mutable_commit()->add_updates();
  update->set_ino(file);
  update->set_mode(S_IFDIR | 02777);
  EXPECT_EQ(call(a, request).error(), 0);
  EXPECT_EQ(call(a, lookup_request("f")).attr().inode().mode(), S_IFREG | 02755u);
}

}  // namespace
}  // namespace datacloud
