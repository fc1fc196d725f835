// Whose files are, in the cloud and on this machine: -o uidmap=FILE and -o squash=UID:GID.
//
// Records, leases and everything below the FUSE operations know the cloud's ids; programs and the
// kernel, which checks permissions, know this machine's. They meet in two places only: attributes
// on their way to the kernel (stat_of in reply.cc: shown()), and what requests of the kernel say
// (maker() where something is created, change() in setattr). ACLs go both ways in ops_xattr.cc.
//
// What has no id here follows idmapped mounts (mount_setattr(2)). The kernel is given its invalid
// id for it, so that it shows the overflow id (65534), lets nobody own it, not even the user of
// that number, and refuses writes (EACCES), removal and changes of attributes (EOVERFLOW).
//
// Thread safety: immutable once made; all const methods from any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/error.h"
#include "common/base/posix_acl.h"
#include "fs/fuse/id_map.h"

namespace datacloud {

struct Owner {
  uint32_t uid = 0, gid = 0;
  friend bool operator==(const Owner&, const Owner&) = default;
};

// Of chown: what is not set stays.
struct OwnerChange {
  std::optional<uint32_t> uid, gid;
  friend bool operator==(const OwnerChange&, const OwnerChange&) = default;
};

// Bounds of a map's file.
constexpr size_t kIdMapBytesMax = 1 << 20;
constexpr size_t kIdMapRangesMax = 10'000;  // of users, and as many of groups

class Owners {
 public:
  Owners() = default;  // the same ids on both sides
  // Whatever is created belongs to this user of the cloud; owners are shown as they are.
  static Owners squashed_to(Owner);
  // The file's text; `name` is put in front of errors with the line. Errors are `invalid`.
  static result<Owners> mapped(std::string_view text, const std::string& name);
  static result<Owners> mapped_by(const std::filesystem::path& file);

  // The owner as the kernel shall know it, from the cloud's; kNoId for what has no id here.
  Owner shown(Owner cloud) const;
  // Whom a file belongs to that is created by this local user. EOVERFLOW without an id in the
  // cloud.
  result<Owner> maker(Owner local) const;
  // What chown means in the cloud. EOVERFLOW for an id that the cloud has no name for. EPERM, when
  // squashed, for what the user could not do (`now`: the file's owner in the cloud); what would
  // change nothing is left out then.
  result<OwnerChange> change(const OwnerChange& local, Owner now) const;
  // Whether change() looks at `now`.
  bool change_needs_owner() const { return squash_.has_value(); }
  // A POSIX ACL, as the kernel takes it. Users and groups without an id here become one that nobody
  // has.
  std::string shown_acl(PosixAcl cloud) const;
  // And as the daemon takes it. EOVERFLOW for an id that the cloud has no name for.
  result<std::string> kept_acl(PosixAcl local) const;

 private:
  struct Maps {
    IdMap users, groups;
  };
  std::optional<Maps> maps_;
  std::optional<Owner> squash_;
};

// "UID:GID", both numbers. invalid for other text.
result<Owner> parse_owner(std::string_view text);

}  // namespace datacloud
