// Builds and takes apart the keys of the view. The only place that knows their bytes.
#include "daemon/metadata/record_keys.h"

namespace datacloud::key {
namespace {

std::string with_u64(char prefix, uint64_t a) {
  std::string k(9, prefix);
  for (int i = 0; i < 8; ++i) k[1 + i] = static_cast<char>(a >> (56 - 8 * i));
  return k;
}

void append_u64(std::string& k, uint64_t v) {
  for (int shift = 56; shift >= 0; shift -= 8) k.push_back(static_cast<char>(v >> shift));
}

void append_u32(std::string& k, uint32_t v) {
  for (int shift = 24; shift >= 0; shift -= 8) k.push_back(static_cast<char>(v >> shift));
}

std::string with_name(char prefix, uint64_t a, std::string_view name) {
  std::string k = with_u64(prefix, a);
  k.append(name);
  return k;
}

std::string with_two(char prefix, uint64_t a, uint64_t b) {
  std::string k = with_u64(prefix, a);
  append_u64(k, b);
  return k;
}

}  // namespace

std::string meta(std::string_view name) { return std::string("A").append(name); }
std::string inode(InodeId ino) { return with_u64('I', ino); }
std::string entry(InodeId parent, std::string_view name) { return with_name('E', parent, name); }
std::string cookie(InodeId parent, uint64_t cookie) { return with_two('D', parent, cookie); }
std::string xattr(InodeId ino, std::string_view name) { return with_name('X', ino, name); }
std::string run(InodeId ino, uint64_t first_block) { return with_two('M', ino, first_block); }
std::string inline_block(InodeId ino, uint64_t block) { return with_two('V', ino, block); }
std::string patch(InodeId ino, uint64_t block, ContentVersion version) {
  std::string k = with_two('W', ino, block);
  append_u64(k, version);
  return k;
}
std::string run_fence() { return with_two('N', 0, 0); }
std::string pending_fence() { return with_two('Q', 0, 0); }
std::string stripe(StripeId id) { return with_u64('S', id); }
std::string live(StripeId id) { return with_u64('L', id); }
std::string orphan(InodeId ino) { return with_u64('O', ino); }
std::string session(SessionId id) { return with_u64('C', id); }
std::string reply(SessionId id, uint64_t request) { return with_two('Q', id, request); }
std::string pending(uint64_t number) { return with_u64('P', number); }

std::string tree(uint32_t id) {
  std::string k = "T";
  append_u32(k, id);
  return k;
}

std::string tree_counters(uint32_t id) {
  std::string k = "U";
  append_u32(k, id);
  return k;
}

std::string quarantine(std::string_view key) { return std::string("Z").append(key); }
std::string quarantine_note(std::string_view key) { return std::string("Y").append(key); }

std::string owner(StripeId id, uint32_t first_slot) {
  std::string k = with_u64('R', id);
  append_u32(k, first_slot);
  return k;
}

std::string shared(StripeId id, uint32_t first_slot, InodeId ino, uint64_t first_block) {
  std::string k = with_u64('J', id);
  append_u32(k, first_slot);
  append_u64(k, ino);
  append_u64(k, first_block);
  return k;
}

std::string former(StripeId id, uint32_t first_slot) {
  std::string k = with_u64('F', id);
  append_u32(k, first_slot);
  return k;
}

std::string granted(IdKind kind, uint64_t first) {
  std::string k(1, 'G');
  k.push_back(static_cast<char>(kind));
  append_u64(k, first);
  return k;
}

std::string damage(StripeId id, uint32_t column) {
  std::string k = with_u64('B', id);
  append_u32(k, column);
  return k;
}

std::string repair(uint8_t remaining, StripeId id) {
  std::string k(1, 'K');
  k.push_back(static_cast<char>(remaining));
  append_u64(k, id);
  return k;
}

std::string undo(uint64_t number) { return with_u64('u', number); }
std::string reservation(InodeId ino) { return with_u64('H', ino); }
std::string reserved_sum(uint32_t tree, std::string_view code) {
  std::string k = "h";
  append_u32(k, tree);
  k.append(code);
  return k;
}
std::string node(std::string_view name) { return std::string(1, 'n') += name; }

uint64_t u64_at(std::string_view key, size_t offset) {
  uint64_t v = 0;
  for (size_t i = offset; i < offset + 8; ++i) v = v << 8 | static_cast<uint8_t>(key[i]);
  return v;
}

uint32_t u32_at(std::string_view key, size_t offset) {
  uint32_t v = 0;
  for (size_t i = offset; i < offset + 4; ++i) v = v << 8 | static_cast<uint8_t>(key[i]);
  return v;
}

std::string after_prefix(std::string prefix) {
  while (!prefix.empty() && static_cast<uint8_t>(prefix.back()) == 0xff) prefix.pop_back();
  if (prefix.empty()) return std::string(64, '\xff');  // above every key of this store
  prefix.back() = static_cast<char>(static_cast<uint8_t>(prefix.back()) + 1);
  return prefix;
}

}  // namespace datacloud::key
