// POSIX ACLs as programs and mounts send them: what is accepted obeys the rules, and keeps its
// bytes but for ids that mean nothing.
#include "common/base/posix_acl.h"

#include "tests/fuzz/fuzz_target.h"

namespace datacloud::fuzz {
namespace posix_acl_input {

void run(ByteView input) {
  auto acl = parse_acl(as_text(input));
  if (!acl) return;
  const std::string bytes = encode_acl(acl.value());
  require(bytes.size() == input.size(), "an ACL keeps its length");
  const auto again = parse_acl(bytes);
  require(again && again.value() == acl.value(), "an ACL is written as read");
  if (acl.value().empty()) return;
  const uint32_t asked = input[input.size() - 1] * 7u & 07777;
  const uint32_t made = acl_restrict_new(acl.value(), asked);
  require((made & ~asked) == 0, "creation grants nothing that was not asked for");
  require((made & 0777) == acl_mode(acl.value()), "mode and ACL agree");
  acl_follow_mode(acl.value(), asked);
  require(acl_mode(acl.value()) == (asked & 0777), "chmod is followed");
  require(parse_acl(encode_acl(acl.value())).has_value(), "and the ACL is still one");
}

std::vector<Bytes> seeds() {
  const AclEntry owner{AclEntry::owner, 7, kAclNoId}, group{AclEntry::owning_group, 5, kAclNoId};
  const AclEntry mask{AclEntry::mask, 6, kAclNoId}, others{AclEntry::others, 1, kAclNoId};
  return {copy_of(encode_acl({})), copy_of(encode_acl({owner, group, others})),
          copy_of(encode_acl({owner,
                              {AclEntry::user, 6, 1000},
                              {AclEntry::user, 0, 5},
                              group,
                              {AclEntry::group, 4, 1000},
                              mask,
                              others}))};
}

}  // namespace posix_acl_input

FuzzTarget posix_acl_target() {
  return {"posix_acl", posix_acl_input::run, posix_acl_input::seeds};
}

}  // namespace datacloud::fuzz
