// Makes a global scope ready for a work function, and answers what the runner needs of it.
// `tell(kind, first, second)` takes texts. All that is used later is taken now.
(function (tell, publicText) {
  const global = globalThis;
  const wellFormed = Function.prototype.call.bind(String.prototype.toWellFormed);
  const report = (kind, first, second) => tell(kind, wellFormed(first), wellFormed(second));
  const { stringify, parse } = JSON;
  const { freeze, defineProperty } = Object;
  const { ownKeys } = Reflect;
  const ErrorClass = Error, text = String;
  const MOST = 8192;

  const slice = Function.prototype.call.bind(String.prototype.slice);
  const cut = (string) => wellFormed(string.length > MOST ? slice(string, 0, MOST) + '…' : string);

  const json = (value) => {
    const written = stringify(value);
    return written === undefined ? 'null' : written;
  };

  const show = (value) => {
    try {
      if (typeof value === 'string') return value;
      if (value instanceof ErrorClass) return `${value.name}: ${value.message}\n${value.stack ?? ''}`;
      if (typeof value === 'object' && value !== null) return stringify(value) ?? text(value);
      return text(value);
    } catch {
      return '[something that cannot be shown]';
    }
  };

  // Name, message and stack of whatever was thrown.
  const describe = (thrown) => {
    try {
      if (typeof thrown === 'object' && thrown !== null) {
        const { name, message, stack } = thrown;
        if (thrown instanceof ErrorClass || typeof message === 'string') {
          const named = typeof name === 'string' && name !== '' ? name : 'Error';
          return [cut(named), cut(text(message)), typeof stack === 'string' ? cut(stack) : ''];
        }
      }
      return ['Error', cut(show(thrown)), ''];
    } catch {
      return ['Error', 'what was thrown cannot be shown', ''];
    }
  };

  const hidden = (object, name, value) =>
    defineProperty(object, name, { value, writable: true, enumerable: false, configurable: true });

  const console = {};
  const levels = { log: 'log', info: 'info', warn: 'warn', error: 'error', debug: 'debug', trace: 'debug' };
  for (const name of ['log', 'info', 'warn', 'error', 'debug', 'trace', 'dir', 'table', 'group']) {
    console[name] = (...values) => {
      let line = '';
      for (let n = 0; n < values.length && line.length <= MOST; n++) line += (n ? ' ' : '') + show(values[n]);
      report('console', levels[name] ?? 'log', cut(line));
    };
  }
  console.assert = (holds, ...values) => {
    if (!holds) console.error('Assertion failed:', ...values);
  };
  for (const name of ['groupEnd', 'groupCollapsed', 'count', 'time', 'timeEnd', 'timeLog', 'clear']) {
    console[name] = () => undefined;
  }

  const work = {
    emit: (name, value) => {
      report('emit', cut(text(name)), json(value));
    },
    reject: (reason) => {
      const error = new ErrorClass(reason === undefined ? 'rejected' : cut(show(reason)));
      hidden(error, 'name', 'Rejected');
      report('reject', error.message, '');
      throw error;
    },
    job: { public: parse(publicText) },
  };
  const progress = (value) => {
    report('progress', json(value), '');
    return true;
  };

  const deepFreeze = (value) => {
    if (typeof value !== 'object' || value === null) return value;
    for (const key of ownKeys(value)) deepFreeze(value[key]);
    return freeze(value);
  };
  deepFreeze(work);
  freeze(work.emit), freeze(work.reject), freeze(progress);
  for (const key of ownKeys(console)) freeze(console[key]);
  freeze(console);
  hidden(global, 'console', console);
  hidden(global, 'work', work);
  hidden(global, 'progress', progress);

  const settle = async (value) => await value;
  // A promise for what has to be waited for; anything else as it is.
  const waitFor = (value) => (typeof value.then === 'function' ? settle(value) : value);
  return { describe, waitFor };
})
