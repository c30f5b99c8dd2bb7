// A scope for many slices: nothing that a function can get hold of may be changed by it. The
// prototypes cannot be frozen (their properties could then not be set on what inherits them
// either), so whatever leads to them is taken away instead; a source that names it does not share.
(function () {
  const { freeze, getOwnPropertyDescriptor, getPrototypeOf, defineProperty } = Object;
  const { ownKeys } = Reflect;
  const global = globalThis;
  const prototypes = new Set(), seen = new Set(), next = [global];
  const samples = [
    [][Symbol.iterator](), new Map()[Symbol.iterator](), new Set()[Symbol.iterator](),
    ''[Symbol.iterator](), ''.matchAll(/x/g), (function* () {})(), (async function* () {})(),
    async () => {}, function* () {}, async function* () {}, new Uint8Array(),
  ];
  if (typeof Iterator === 'function') {
    samples.push([].values().map((x) => x), Iterator.from({ next() {} }));
  }
  next.push(...samples.map(getPrototypeOf));
  while (next.length) {
    const object = next.pop();
    if (object === null || (typeof object !== 'object' && typeof object !== 'function')) continue;
    if (seen.has(object)) continue;
    seen.add(object);
    next.push(getPrototypeOf(object));
    for (const key of ownKeys(object)) {
      const { value, get, set } = getOwnPropertyDescriptor(object, key);
      next.push(value, get, set);
      if (key === 'prototype') prototypes.add(value);
    }
  }
  for (const sample of samples) {
    for (let object = getPrototypeOf(sample); object !== null; object = getPrototypeOf(object)) prototypes.add(object);
  }
  for (const prototype of prototypes) delete prototype.constructor;
  for (const name of ['__proto__', '__defineGetter__', '__defineSetter__', '__lookupGetter__', '__lookupSetter__']) {
    delete Object.prototype[name];
  }
  for (const name of ['getPrototypeOf', 'setPrototypeOf', 'defineProperty', 'defineProperties',
    'getOwnPropertyDescriptor', 'getOwnPropertyDescriptors']) {
    delete Object[name];
  }
  for (const name of ['Reflect', 'Proxy', 'Function', 'eval', 'WeakRef', 'FinalizationRegistry', 'globalThis', 'queueMicrotask']) {
    delete global[name];
  }
  seen.delete(global);
  for (const object of seen) if (!prototypes.has(object)) freeze(object);
  for (const key of ownKeys(global)) {
    const own = getOwnPropertyDescriptor(global, key);
    if (own.configurable && 'value' in own) defineProperty(global, key, { value: own.value, writable: false, configurable: false });
  }
})()
