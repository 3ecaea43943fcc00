// The least that a worker needs. With mongosh, as somebody who may make users in the database:
//
//   mongosh "mongodb://admin@db.example.org/?authSource=admin&tls=true" docker/worker_role.js
//
// KMDE_DATABASE (kmde_fw) and KMDE_WORKER (kmde_worker) in the environment name database and user; the password is asked
// for. The user is of that database: my_launchpad.yaml then says authSource=kmde_fw. Called again, it brings the role up
// to date and leaves the user as it is.
//
// A worker cannot take away or change what was computed (structures, accepted labels, models, cycles, candidates), drop
// anything, or read another database. It can change fireworks, and with them what other workers run: whoever may write
// into FireWorks' collections may run code on every worker.
const actions = {
  "campaigns": ["find", "update", "listIndexes"],
  "structures": ["find", "insert", "listIndexes"],
  "labels": ["find", "insert", "update", "listIndexes"],
  "models": ["find", "insert", "listIndexes"],
  "analyses": ["find", "insert", "listIndexes"],
  "evaluations": ["find", "insert", "listIndexes"],
  "motifs": ["find", "insert", "listIndexes"],
  "shards": ["find", "insert", "remove", "listIndexes"],
  "candidates": ["find", "insert", "listIndexes"],
  "selections": ["find", "insert", "listIndexes"],
  "outcomes": ["find", "insert", "listIndexes"],
  "cycles": ["find", "insert", "listIndexes"],
  "claims": ["find", "insert", "update"],
  "progress": ["find", "insert", "update", "remove"],
  "blobs": ["find", "insert"],
  "kmde_meta": ["find"],
  "kmde_blobs.files": ["find", "insert", "remove", "createIndex", "listIndexes"],
  "kmde_blobs.chunks": ["find", "insert", "remove", "createIndex", "listIndexes"],
  "fireworks": ["find", "insert", "update", "remove", "listIndexes"],
  "workflows": ["find", "insert", "update", "listIndexes"],
  "launches": ["find", "insert", "update", "listIndexes"],
  "fw_id_assigner": ["find", "update"],
  "fw_gridfs.files": ["find", "insert", "createIndex", "listIndexes"],
  "fw_gridfs.chunks": ["find", "insert", "createIndex", "listIndexes"]
};

const name = process.env.KMDE_DATABASE || "kmde_fw";
const user = process.env.KMDE_WORKER || "kmde_worker";
const role = "kmdeWorker";
const target = db.getSiblingDB(name);
const privileges = Object.entries(actions).map(([collection, list]) => ({
  resource: { db: name, collection: collection },
  actions: list
}));
if (target.getRole(role)) {
  target.updateRole(role, { privileges: privileges, roles: [] });
} else {
  target.createRole({ role: role, privileges: privileges, roles: [] });
}
if (!target.getUser(user)) {
  target.createUser({ user: user, pwd: passwordPrompt(), roles: [{ role: role, db: name }] });
}
print(`role ${role} and user ${user} are in database ${name}`);
