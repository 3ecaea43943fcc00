// Run once, by the MongoDB image, when the volume is empty: the user of the workers and of everybody who submits.
// Its password comes from the environment; it may read and write the one database and nothing else.
const password = process.env.KMDE_MONGO_PASSWORD;
if (!password) {
  throw new Error("KMDE_MONGO_PASSWORD is not set: the user kmde_worker needs a password");
}
db.getSiblingDB("admin").createUser({
  user: "kmde_worker",
  pwd: password,
  roles: [{role: "readWrite", db: "kmde_fw"}],
});
