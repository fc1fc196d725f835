// Blocking calls of an object store, and contents that can be recognised, for tests.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "common/store/object_store.h"

namespace datacloud {

inline SiteMarker test_marker(uint32_t id = 1) {
  return {"uuid-1", "demo", std::string("site").append(std::to_string(id)), id, 1};
}

inline Bytes contents_of(const std::string& name, size_t size) {
  std::mt19937 random(static_cast<uint32_t>(std::hash<std::string>()(name)));
  Bytes bytes(size);
  for (auto& byte : bytes) byte = static_cast<uint8_t>(random());
  return bytes;
}

inline result<void> put(ObjectStore& store, const std::string& name, Bytes data,
                        Attributes attributes = {}, OpOptions options = {}) {
  return wait_for<void>([&](auto done) {
    store.put(name, Payload::from(std::move(data)), std::move(attributes), options, done);
  });
}

inline result<ReadReply> read(ObjectStore& store, const std::string& name,
                              std::vector<ByteRange> ranges, bool attributes = false,
                              OpOptions options = {}) {
  return wait_for<ReadReply>(
      [&](auto done) { store.read(name, std::move(ranges), attributes, options, done); });
}

inline result<Bytes> read_all(ObjectStore& store, const std::string& name) {
  TRY(auto reply, read(store, name, {{0, UINT64_MAX}}));
  return std::move(reply.ranges[0]);
}

inline result<DeriveReply> derive(ObjectStore& store, const std::string& name,
                                  Derivation derivation, OpOptions options = {}) {
  return wait_for<DeriveReply>(
      [&](auto done) { store.derive(name, std::move(derivation), options, done); });
}

inline result<CombineReply> combine(ObjectStore& store, const std::string& name,
                                    Combination combination, OpOptions options = {}) {
  return wait_for<CombineReply>(
      [&](auto done) { store.combine(name, std::move(combination), options, done); });
}

inline result<AuditProof> prove(ObjectStore& store, const std::string& name,
                                AuditChallenge challenge, OpOptions options = {}) {
  return wait_for<AuditProof>([&](auto done) { store.prove(name, challenge, options, done); });
}

inline result<void> remove(ObjectStore& store, const std::string& name, OpOptions options = {}) {
  return wait_for<void>([&](auto done) { store.remove(name, options, done); });
}

inline result<ListReply> list(ObjectStore& store, const std::string& from, size_t count_max) {
  return wait_for<ListReply>([&](auto done) { store.list(from, count_max, {}, done); });
}

inline result<void> check(ObjectStore& store, OpOptions options = {}) {
  return wait_for<void>([&](auto done) { store.check(options, done); });
}

inline result<ObjectStore::Capacity> capacity(ObjectStore& store) {
  return wait_for<ObjectStore::Capacity>([&](auto done) { store.capacity({}, done); });
}

}  // namespace datacloud
